"""Reports to test with: a plain one, a hostile one, one with very many classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lastlayer._codes import Problem
from lastlayer.evaluation import Baseline, Proportion, evaluate_scores, majority
from lastlayer.report import Mistake, PathRow, ReportData, Setting

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
    data = ReportData(
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
            Mistake(names[i], int(y[i]), int(p[i].argmax()), float(p[i].max()), float(p[i, y[i]]), pixels[i])
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
        plan=[Setting(text, text, text) for text in HOSTILE],
        baselines=[Baseline(bad, Proportion(1, 2), bad)],
        templates=[replace(data.templates[0], kind=bad, note=bad)],
        mistakes=[m._replace(name=bad) if hasattr(m, "_replace") else replace(m, name=bad) for m in data.mistakes],
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
