"""What representations cost, beside other libraries at the same parameters.

    python benchmarks/representations.py [--only hog|patches] [--arrays DIR] [--peers-python PYTHON] [--repeats 7]

A section is a function that returns rows; contestants take turns within a repetition, and the medians are compared.
Peers (requirements.txt) may live in another environment. Images are the first ones of ``DIR/cifar_train.npy`` (uint8
(N, 32, 32, 3)), else made up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import machine
from lastlayer.representations import Hog, Patches, Representation

HERE = Path(__file__).parent
MANY = 50_000
SOME = {"scikit-image": 200, "opencv": 5000, "lastlayer": 5000}
"""Images of a repetition on one core."""


@dataclass(frozen=True)
class Row:
    what: str
    images: int
    features: int
    seconds: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def microseconds(self) -> float:
        """An image's share of the median, in millionths of a second."""
        return 1e6 * self.median / self.images


@dataclass(frozen=True)
class Setting:
    images: Any
    peers: str
    repeats: int


@contextmanager
def one_core() -> Iterator[None]:
    """Let this process run on one core only, which is also the number of threads that the package then uses."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def seconds_of(phi: Representation, images: Any) -> float:
    start = time.perf_counter()
    phi.transform(images)
    return time.perf_counter() - start


def hog(setting: Setting) -> list[Row]:
    """HOG of one 32 × 32 colour image on one core: 9 directions, cells of 4 pixels, blocks of 2 × 2 cells, L2-Hys."""
    rng = np.random.default_rng(0)
    some = setting.images[: max(SOME.values())]
    exact = Hog.as_scikit_image(9, 4, 2).fit(some, rng)
    shared = Hog(9, 4, 2, signed=False, compact=False, root=False, levels=1).fit(some, rng)
    default = Hog().fit(some, rng)
    for phi in (exact, shared, default):
        phi.transform(some[:2])
    times: dict[str, list[float]] = {name: [] for name in ("exact", "shared", "default", "many", *SOME)}
    titles, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder, _peers(setting, some, Path(folder)) as ask:
        for _ in range(setting.repeats):
            for peer, name, phi in (("scikit-image", "exact", exact), ("opencv", "shared", shared)):
                seconds, sizes[peer], titles[peer] = ask(f"{peer} {SOME[peer]}")
                times[peer].append(seconds)
                with one_core():
                    times[name].append(seconds_of(phi, some))
            with one_core():
                times["default"].append(seconds_of(default, some))
            times["many"].append(seconds_of(default, setting.images))

    def row(what: str, name: str, images: int, features: int, against: Row | None = None) -> Row:
        made = Row(what, images, features, tuple(times[name]))
        note = "" if against is None else f"{against.microseconds / made.microseconds:.1f} times as fast"
        return Row(what, images, features, made.seconds, note)

    one = row(titles["scikit-image"], "scikit-image", SOME["scikit-image"], sizes["scikit-image"])
    two = row(titles["opencv"] + " HOGDescriptor", "opencv", SOME["opencv"], sizes["opencv"])
    cores = len(os.sched_getaffinity(0))
    return [
        one,
        row("lastlayer, as scikit-image", "exact", len(some), exact.n_features, one),
        two,
        row("lastlayer, votes shared as in OpenCV", "shared", len(some), shared.n_features, two),
        row("lastlayer, default parameters", "default", len(some), default.n_features),
        row(f"lastlayer, default parameters, {cores} cores", "many", len(setting.images), default.n_features),
    ]


@contextmanager
def _peers(setting: Setting, images: Any, folder: Path) -> Iterator[Callable[[str], tuple[float, int, str]]]:
    """Ask the other environment's process for the seconds, the number of features and the name of a library."""
    np.save(folder / "images.npy", images)
    command = [setting.peers, str(HERE / "hog_peers.py"), str(folder / "images.npy")]
    single = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **single}
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        source, sink = process.stdout, process.stdin

        def ask(line: str) -> tuple[float, int, str]:
            print(line, file=sink, flush=True)
            answer = source.readline()
            if not answer:
                raise RuntimeError(f"{setting.peers} ended; install benchmarks/requirements.txt there")
            seconds, features, title = answer.rstrip("\n").split("\t")
            return float(seconds), int(features), title

        try:
            yield ask
        finally:
            sink.close()


def patches(setting: Setting) -> list[Row]:
    """Patch features, all cores: products of whitening and filters, as a share of the matrix product rate."""
    rng = np.random.default_rng(0)
    some = setting.images[:1000]
    fitted = [Patches(2048, components=components).fit(setting.images[:5000], rng) for components in (40, 64)]
    for phi in fitted:
        phi.transform(some[:32])
    seconds: list[list[float]] = [[] for _ in fitted]
    rates: list[float] = []
    for _ in range(setting.repeats):
        rates.append(machine.matmul_rate(2048, 3))
        for phi, times in zip(fitted, seconds):
            times.append(seconds_of(phi, some))
    rows = []
    for phi, times in zip(fitted, seconds):
        positions, d = 27 * 27, 6 * 6 * 3
        flops = 2.0 * positions * phi.components * (d + phi.filters) * len(some)
        shares = [flops / s / rate / 1e9 for s, rate in zip(times, rates)]
        note = (
            f"{flops / np.median(times) / 1e9:.0f} GFLOP/s, {np.median(shares):.2f} ({min(shares):.2f} to "
            f"{max(shares):.2f}) of {np.median(rates):.0f}"
        )
        what = f"patches, {phi.filters:,} filters, {phi.components} components"
        rows.append(Row(what, len(some), phi.n_features, tuple(times), note))
    return rows


SECTIONS: dict[str, Callable[[Setting], list[Row]]] = {"hog": hog, "patches": patches}


def made_up(n: int) -> Any:
    """Pictures of soft blobs with noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 224, (n, 8, 8, 3), dtype=np.uint8)
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2)
    fine += rng.integers(0, 32, fine.shape, dtype=np.uint8)
    return fine


def table(rows: Sequence[Row]) -> str:
    lines = ["| what | images | features | µs an image, median | least to most | seconds, median | |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        least, most = (1e6 * end / row.images for end in (min(row.seconds), max(row.seconds)))
        lines.append(
            f"| {row.what} | {row.images:,} | {row.features:,} | {row.microseconds:.1f} | {least:.1f} to {most:.1f} "
            f"| {row.median:.3f} | {row.note} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print a table for each section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", choices=sorted(SECTIONS), help="section (repeatable; all by default)"
    )
    parser.add_argument("--arrays", type=Path, help="folder with cifar_train.npy")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=MANY, help="images of the run on all cores")
    options = parser.parse_args(arguments)
    if options.arrays is None:
        images, source = made_up(options.images), "made up"
    else:
        images = np.array(np.load(options.arrays / "cifar_train.npy", mmap_mode="r")[: options.images])
        source = "CIFAR-10 training images"
    print(f"{machine.describe()}; {source}; medians of {options.repeats}")
    for name in options.only or SECTIONS:
        section = SECTIONS[name]
        print(f"\n## {name}\n\n{section.__doc__}\n")
        print(table(section(Setting(images, options.peers_python, options.repeats))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
