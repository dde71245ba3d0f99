"""The main job end to end: folders of images to a report, timed as a user would run it.

    python benchmarks/main_job.py --mnist FOLDER --cifar FOLDER

The folders hold train/CLASS/* and test/CLASS/* (MNIST as PNG, CIFAR-10 as JPEG). Every command starts with an
empty cache unless the row says "again". Prints one table with the machine's description.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import machine
import measure

LASTLAYER = [sys.executable, "-m", "lastlayer"]


def train(name: str, data: Path, arguments: list[str], cache: Path, work: Path) -> list[str]:
    command = [*LASTLAYER, "train", str(data), *arguments, "--json", "-q", "--cache-dir", str(cache)]
    found = measure.run(command, cwd=work)
    if found.code != 0:
        return [name, f"failed with {found.code}: {found.stderr.strip().splitlines()[-1:]}", "", "", ""]
    metrics = json.loads(found.stdout)
    score = metrics["splits"]["test"]["accuracy"]
    accuracy = (
        f"{score['k']}/{score['n']} = {100 * score['value']:.2f}% [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
    )
    stages = " ".join(f"{stage} {seconds:.1f}" for stage, seconds in metrics["seconds_by_stage"].items())
    return [name, accuracy, f"{found.seconds:.1f} s", f"{found.peak_bytes / 2**30:.2f} GiB", stages]


def help_time(repeats: int = 11) -> list[str]:
    seconds = sorted(measure.run([*LASTLAYER, "--help"], cwd=Path.cwd()).seconds for _ in range(repeats))
    return ["lastlayer --help", "", f"{seconds[repeats // 2]:.2f} s", "", f"median of {repeats}"]


def predict_time(run: Path, image: Path, repeats: int = 7) -> list[str]:
    command = [*LASTLAYER, "predict", str(run), str(image)]
    seconds = sorted(measure.run(command, cwd=Path.cwd()).seconds for _ in range(repeats))
    return ["predict 1 image, cold start", "", f"{seconds[repeats // 2]:.2f} s", "", f"median of {repeats}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--cifar", type=Path)
    options = parser.parse_args()
    rows = [help_time()]
    with tempfile.TemporaryDirectory(prefix="lastlayer-bench-") as scratch:
        work, cache = Path(scratch), Path(scratch) / "cache"
        rows.append(train("demo digits, pixels, logistic", Path("demo:digits"), ["--phi", "pixels"], cache, work))
        if options.mnist:
            mnist = options.mnist.absolute()
            rows.append(train("MNIST, pixels, logistic", mnist, ["--phi", "pixels"], cache, work))
            again = ["--phi", "pixels", "--head", "ridge"]
            rows.append(train("MNIST again, pixels, ridge", mnist, again, cache, work))
            image = next((mnist / "test").rglob("*.png"))
            rows.append(predict_time(work / "runs" / "train-002", image))
        if options.cifar:
            cifar = options.cifar.absolute()
            rows.append(train("CIFAR-10-JPEG, pixels, logistic", cifar, ["--phi", "pixels"], cache, work))
            both = ["--phi", "hog+colour"]
            rows.append(train("CIFAR-10-JPEG, hog+colour, logistic", cifar, both, work / "cache2", work))
            svm = [*both, "--head", "svm"]
            rows.append(train("CIFAR-10-JPEG again, hog+colour, svm", cifar, svm, work / "cache2", work))
    print(machine.describe())
    print(f"float32 matrix product {machine.matmul_rate():.0f} GFLOP/s\n")
    header = ["command", "test accuracy [95%]", "wall", "peak memory", "seconds by stage"]
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
