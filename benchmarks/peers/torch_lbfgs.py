"""PyTorch's L-BFGS: full batch, float32, strong Wolfe line search, as linear probes are usually fitted.

Configuration: weights stored (K, D), so that the gradient is the fast product ``PᵀX``; step 1, no tolerance, history of
10 or 100 pairs; threads as PyTorch chooses. The closure sees trial points: those whose own loss is the lowest so far
are snapshots, which is never to the contestant's disadvantage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from peers.job import Job, SkippedError
from peers.trace import Trace

Array = npt.NDArray[np.floating]


def prepare(job: Job, X: Array, y: Array, trace: Trace) -> Any:
    import torch
    from torch.nn.functional import cross_entropy, linear

    if job.loss != "cross_entropy" or not job.bias:
        raise SkippedError("set up for cross-entropy with a bias")

    def run(X: Array, y: Array, iterations: int) -> int:
        data = torch.from_numpy(X.astype(job.dtype, copy=False))
        labels = torch.from_numpy(y.astype(np.int64))
        W = torch.zeros(job.n_classes, X.shape[1], dtype=data.dtype, requires_grad=True)
        b = torch.zeros(job.n_classes, dtype=data.dtype, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [W, b],
            lr=1,
            max_iter=iterations,
            max_eval=10 * iterations,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=int(job.options["history"]),
            line_search_fn="strong_wolfe",
        )

        def closure() -> Any:
            optimiser.zero_grad()
            loss = cross_entropy(linear(data, W, b), labels) + 0.5 * job.l2 * W.square().sum()
            loss.backward()
            trace.snapshot(lambda: (W.detach().numpy().T, b.detach().numpy()), value=loss.item())
            return loss

        optimiser.step(closure)
        trace.snapshot(lambda: (W.detach().numpy().T, b.detach().numpy()), last=True)
        return int(optimiser.state[W]["n_iter"])

    def fit(X: Array, y: Array) -> dict[str, Any]:
        return {"iterations": run(X, y, 1_000_000), "threads": torch.get_num_threads()}

    run(X, y, 2)
    return fit
