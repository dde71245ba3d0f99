"""Reports to test with: a plain one, a hostile one, one with very many classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lastlayer._codes import Problem
from lastlayer.evaluation import Baseline, Proportion, evaluate_scores, majority
from lastlayer.evaluation.calibration import calibration_error
from lastlayer.evaluation.intervals import Estimate
from lastlayer.evaluation.learning_curve import learning_curve_of
from lastlayer.report import (
    Abstaining,
    Calibration,
    Doubt,
    Epoch,
    Mistake,
    Near,
    PathRow,
    ReportData,
    Setting,
    Suspects,
    Training,
)

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "photo\u202egpj.exe",
    "line\nbreak\x00\x1b[31m",
    "broken\udcff\ud800",
    "</title></style></script><!--",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(4)",
    "&lt;b&gt;&amp;",
    "]]></svg><script>alert(5)</script>",
    "\u2066rtl\u2069 شكل",
)


@dataclass(frozen=True)
class Pictures:
    kind: str
    note: str
    images: np.ndarray


def report_data(class_names=("cat", "dog", "fox"), N=120, side=12, channels=3, seed=0, per_cell=3, **changes):
    """A report whose scores follow from random scores; every part is filled."""
    rng = np.random.default_rng(seed)
    K = len(class_names)
    names = [f"{class_names[i % K]}/{i}.png" for i in range(N)]
    y = np.arange(N) % K
    scores = rng.normal(0, 1, (N, K))
    scores[np.arange(N), y] += 1.5
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    pixels = rng.integers(0, 256, (N, side, side, channels), dtype=np.uint8)
    splits = {
        "train": evaluate_scores(y, p, class_names, "train"),
        "val": evaluate_scores(y[: N // 2], p[: N // 2], class_names, "val"),
        "test": evaluate_scores(y, p, class_names, "test"),
    }
    wrong = np.flatnonzero(p.argmax(axis=1) != y)
    wrong = wrong[np.argsort(-p[wrong].max(axis=1))]
    cells = {}
    for i in wrong.tolist():
        cells.setdefault((int(y[i]), int(p[i].argmax())), []).append((names[i], pixels[i]))
    cells = {cell: pictures[:per_cell] for cell, pictures in cells.items()}
    path = [
        PathRow(10.0**e, 10.0**-e / N, 1.2 - 0.1 * e, Proportion(N // 2 + 3 * e, N), 1.0 + 0.05 * e * e, 9, 0.25, e < 2)
        for e in range(-3, 4)
    ]
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    quality = calibration_error(confidence, right)
    loss, mended = Estimate(1.0, 0.9, 1.1, "bootstrap"), Estimate(0.9, 0.8, 1.0, "bootstrap")
    doubts = tuple(Doubt(names[i], int(y[i]), int(p[i].argmax()), 0.1, 0.8, pixels[i]) for i in wrong[:20].tolist())
    sizes = (10, 20, 40, 80)
    answers = [rng.random((3 if n < 80 else 1, N)) < 0.9 - n**-0.5 for n in sizes]
    data = ReportData(
        suspects=Suspects(doubts, len(doubts), N, 7, Proportion(N - len(wrong), N), "Judged by folds."),
        unsure=doubts[:5],
        calibration=Calibration(quality, loss, quality, mended, 1.25, "40 validation images"),
        abstaining=Abstaining(
            (0.25, 0.5, 0.75, 1.0),
            (0.0, 0.1, 0.2, 0.3),
            Estimate(0.1, 0.05, 0.15, "bootstrap"),
            N,
            0.4,
            0.9,
            Proportion(N // 2, N),
            Proportion(N // 3, N // 2),
        ),
        learning_curve=learning_curve_of(sizes, answers, y, np.full(K, 80 // K), setting="ridge, 3 draws"),
        training=Training(
            tuple(Epoch(e, 2.0 / e, 2.1 / e, 0.5 + 0.05 * e, 0.1) for e in range(1, 6)),
            4,
            "epochs",
            ("conv1  8x8",),
            (pixels[0][:5, :5], pixels[1][:5, :5]),
        ),
        near_note="Nearest by cosine similarity.",
        title="train-001",
        command="lastlayer train ./photos",
        created="2025-01-31 12:00",
        source="./photos",
        layout="class folders, no splits",
        description=f"{N} images, {K} classes",
        plan=[Setting("split", "70/15/15", "--split"), Setting("device", "cpu")],
        class_names=tuple(class_names),
        splits=splits,
        quote="test",
        selection="C = 1 of 7 values, by accuracy on val",
        look=1,
        baselines=[
            majority(y, y, class_names),
            Baseline("1-NN pixels", Proportion(50, N), "closest pixels"),
        ],
        path=path,
        chosen=3,
        templates=(Pictures("pixels", "blue raises", rng.random((K, side, side, 3)).astype(np.float32)),),
        mistakes=[
            Mistake(
                names[i],
                int(y[i]),
                int(p[i].argmax()),
                float(p[i].max()),
                float(p[i, y[i]]),
                pixels[i],
                (Near(names[0], 0, 0.9, pixels[0]), Near(names[1], 1 % K, 0.8, pixels[1])),
            )
            for i in wrong[:60].tolist()
        ],
        confusion_images=cells,
        problems=(Problem("LL003", "2 unreadable files skipped", ("a.png", "b.png"), ("empty", "truncated")),),
        alterations={"rotated": 3},
        environment={"python": "3.11"},
        timings={"read": 1.0, "fit": 2.0},
        config_toml='seed = 0\nphi = "pixels"\n',
    )
    return replace(data, **changes)


def hostile_data():
    """Every string a user or a file can choose is hostile."""
    data = report_data(class_names=HOSTILE, N=12 * 24)
    bad = "".join(HOSTILE)
    return replace(
        data,
        title=bad,
        command=f"lastlayer train {bad}",
        source=bad,
        layout=bad,
        description=bad,
        selection=bad,
        near_note=bad,
        suspects=replace(data.suspects, how=bad, rows=[d._replace(name=bad) for d in data.suspects.rows]),
        unsure=[d._replace(name=bad) for d in data.unsure],
        calibration=replace(data.calibration, fitted_on=bad),
        learning_curve=replace(data.learning_curve, setting=bad),
        training=replace(data.training, stop_reason=bad, layers=HOSTILE),
        plan=[Setting(text, text, text) for text in HOSTILE],
        baselines=[Baseline(bad, Proportion(1, 2), bad)],
        templates=[replace(data.templates[0], kind=bad, note=bad)],
        mistakes=[replace(m, name=bad, near=[n._replace(name=bad) for n in m.near]) for m in data.mistakes],
        confusion_images={
            cell: [(bad, picture) for _, picture in pictures] for cell, pictures in data.confusion_images.items()
        },
        problems=(Problem("LL003", bad, HOSTILE, HOSTILE, bad),),
        alterations={text: 1 for text in HOSTILE},
        environment={text: text for text in HOSTILE},
        timings={text: 1.0 for text in HOSTILE},
        config_toml="\n".join(HOSTILE),
        split_notes={"test": bad},
        splits={**data.splits, bad: data.splits["test"]},
    )
