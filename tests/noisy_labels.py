"""Labels with known errors and probabilities as a cross-validated model gives them; plain NumPy, for every machine."""

from __future__ import annotations

import numpy as np

CASES: dict[str, tuple[int, int, float, float]] = {
    "ten classes": (600, 10, 0.08, 3.0),
    "three classes": (90, 3, 0.15, 2.0),
    "unsure model": (400, 6, 0.10, 1.0),
}
"""Images, classes, share of wrong labels, and how sharp the model is."""


def noisy_labels(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with errors, probabilities and true labels; rounded, so that no machine sees ties differently."""
    n, k, share, sharpness = CASES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    true = rng.integers(0, k, n)
    wrong = rng.random(n) < share
    labels = np.where(wrong, (true + rng.integers(1, k, n)) % k, true)
    scores = sharpness * (rng.standard_normal((n, k)) + 2.0 * np.eye(k)[true])
    p = np.round(np.exp(scores - scores.max(axis=1, keepdims=True)), 6) + 1e-6
    p = np.round(p / p.sum(axis=1, keepdims=True), 6)
    return labels, p, true
