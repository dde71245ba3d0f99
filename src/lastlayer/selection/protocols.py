"""Probe protocols: how C is chosen and on which rows the probe is then fitted, as published.

========= ===================================== ========================= ==================== =================
name      values of C                           chosen on                 by                   fitted on
========= ===================================== ========================= ==================== =================
holdout   `CS`, or as given                     validation, or 15% of     lowest loss          training rows
                                                train
cv        `CS`, or as given                     stratified folds          lowest mean loss     all rows
clip      10^(-6 + k/8), k = 0..96, bisected:   validation, or 10% of     highest accuracy     train + validation
          11 to 15 of them                      train
dinov2    10^(-6 + k/4), k = 0..44, all of      validation, or 10% of     highest accuracy     train + validation
          them                                  train
========= ===================================== ========================= ==================== =================

Ties go to the smaller C. No protocol standardises or normalises features; the caller may.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lastlayer._arrays import Array, BoolArray, InputError
from lastlayer._progress import SILENT, Progress
from lastlayer.linear import single_blas_thread
from lastlayer.selection.cross_validation import cross_validate
from lastlayer.selection.fit import fit_linear
from lastlayer.selection.folds import held_out, make_folds
from lastlayer.selection.path import Walk, check_grid
from lastlayer.selection.protocol_sweep import (
    CHOICE_GAP,
    CLIP_CS,
    CS,
    DEPARTURES,
    DINOV2_CS,
    FINAL_GAP,
    FINAL_TOL,
    MAX_ITER,
    PROTOCOLS,
    SHARES,
    ProtocolResult,
    Sweep,
)
from lastlayer.solvers import StopReason

__all__ = ["CLIP_CS", "CS", "DINOV2_CS", "PROTOCOLS", "ProtocolResult", "choose_by_protocol"]


def choose_by_protocol(
    protocol: str,
    Z: Array,
    y: Array,
    n_classes: int,
    *,
    Z_val: Array | None = None,
    y_val: Array | None = None,
    groups: Array | None = None,
    folds: int | Array | Sequence[tuple[Array, Array]] = 5,
    seed: int = 0,
    loss: str = "cross_entropy",
    sample_weight: Array | None = None,
    Cs: Sequence[float] | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> ProtocolResult:
    """Choose C by one of the published protocols and fit the probe.

    Parameters
    ----------
    protocol : {"holdout", "cv", "clip", "dinov2"}
    Z : ndarray
        (N, D) features of training rows. Taken as they are: no protocol standardises or normalises.
    y : ndarray
        (N,) labels 0..K-1.
    n_classes : int
        K.
    Z_val, y_val : ndarray, optional
        Validation rows of the source. Without them rows of Z are held out: 15% (holdout) or 10% (clip) of every class,
        10% at random (dinov2). Refused for cv.
    groups : ndarray, optional
        (N,); rows of one group are never on both sides.
    folds : int, ndarray or pairs
        For cv, as `make_folds` takes them.
    seed : int
        Of everything that is drawn.
    loss : str
        cross_entropy, squared or squared_hinge; clip and dinov2 are published for cross_entropy.
    sample_weight : ndarray, optional
        (N,) for the rows of Z when fitting; validation rows count alike.
    Cs : sequence of float, optional
        Values for holdout and cv (`CS` when None); refused for clip and dinov2, whose values are theirs.
    threads : int, optional
        Changes no bit.
    progress : Progress

    Returns
    -------
    ProtocolResult

    Raises
    ------
    InputError
        For what a protocol does not take, and as `fit_linear`.

    Notes
    -----
    **holdout.** C of the lowest validation loss, over a path that ends when the loss has risen for two values in a
    row. No refit: validation rows stay unseen, so that they may still serve for early looks.

    **cv.** C of the lowest mean loss over stratified, group-aware folds, every C in every fold; fitted on all rows.

    **clip** (Radford et al. 2021, appendix A.3; the authors' sweep as described in openai/CLIP issue 39). Seven coarse
    values, k = 0, 16, .. 96; then, for steps 8, 4, 2, 1 of k, the neighbours of the best so far. The highest
    validation *accuracy* chooses; at most 1,000 iterations; refit on train + validation. Theirs: scikit-learn's
    L-BFGS in float64, stopped at a gradient of 1e-4. Ours stops by the share of the objective still to gain (1e-5
    while choosing, 1e-6 for the refit), which on ill-conditioned features their 1,000 iterations often do not reach:
    the same optimum, nearer.

    **dinov2** (Oquab et al. 2023, ``dinov2/eval/log_regression.py``). All 45 values, each fitted; the highest
    validation *accuracy* chooses; at most 1,000 iterations; refit on train + held-out rows. Theirs: cuML's L-BFGS in
    float64 with tol 1e-12 and 50 line-search steps, every C from zero. Ours goes from strong to weak, each fit begun at
    the one before, and stops as for clip: products in float32, sums in float64.

    Two classes: with clip and dinov2 and the cross-entropy C is scikit-learn's, whose two-class model has one column;
    it is ``λ = 2 / (C Σ s)`` for the two columns here. Otherwise ``λ = 1 / (C Σ s)``.
    """
    given = None if Z_val is None or y_val is None else (Z_val, y_val)
    _refuse(protocol, (Z_val is None) != (y_val is None), given is not None, Cs, loss)
    grid = check_grid(Cs or CS)
    if protocol == "cv":
        return _cv(Z, y, n_classes, folds, groups, seed, loss, sample_weight, grid, threads, progress)
    held: BoolArray | None = None
    if given is None:
        held, where = _hold_out(protocol, y, groups, seed)
        given = Z[held], y[held]
    else:
        where = f"the validation set given ({len(given[0]):,} rows)"
        if protocol != "holdout":
            held = np.repeat([False, True], [len(Z), len(given[0])])
            if sample_weight is not None:
                sample_weight = np.concatenate([sample_weight, np.ones(len(given[0]))])
            Z, y = np.concatenate([Z, given[0]]), np.concatenate([y, given[1]])
    with single_blas_thread():
        walk = Walk.begin(
            Z,
            y,
            n_classes,
            loss,
            sample_weight=sample_weight,
            held=held,
            gap=CHOICE_GAP,
            max_iter=MAX_ITER,
            threads=threads,
        )
        sweep = Sweep(protocol, walk, *given, C_factor=0.5 if _one_column(protocol, n_classes, loss) else 1.0)
        interrupted = sweep.run(grid, progress)
        weights = np.ones(len(Z)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        return sweep.finish(where, weights, grid, interrupted)


def _refuse(protocol: str, half: bool, validation: bool, Cs: Sequence[float] | None, loss: str) -> None:
    """What the protocol does not take."""
    if protocol not in PROTOCOLS:
        raise InputError(f"No protocol is called {protocol!r}", f"There are {', '.join(PROTOCOLS)}")
    if half:
        raise InputError("Z_val and y_val go together", "Give both, or none")
    if protocol == "cv" and validation:
        raise InputError("Protocol cv takes no validation set", "Take protocol holdout, or leave the set out")
    if protocol in ("clip", "dinov2") and Cs is not None:
        raise InputError(
            f"The values of C are part of protocol {protocol}", "Leave them out, or take protocol holdout or cv"
        )
    if protocol in ("clip", "dinov2") and loss != "cross_entropy":
        raise InputError(
            f"Protocol {protocol} is published for cross_entropy, not {loss}", "Take protocol holdout or cv"
        )


def _one_column(protocol: str, n_classes: int, loss: str) -> bool:
    """Whether C means scikit-learn's for two classes."""
    return protocol in ("clip", "dinov2") and n_classes == 2 and loss == "cross_entropy"


def _hold_out(protocol: str, y: Array, groups: Array | None, seed: int) -> tuple[BoolArray, str]:
    """Rows that choose, and the words for them."""
    share = SHARES[protocol]
    stratified = protocol != "dinov2"
    held = held_out(y, share, groups=groups, seed=seed, stratified=stratified)
    kind = "whole groups" if groups is not None else "stratified" if stratified else "at random"
    return held, f"{100 * share:g}% of train ({int(held.sum()):,} rows, {kind}, seed {seed})"


def _cv(
    Z: Array,
    y: Array,
    n_classes: int,
    folds: int | Array | Sequence[tuple[Array, Array]],
    groups: Array | None,
    seed: int,
    loss: str,
    sample_weight: Array | None,
    grid: Sequence[float],
    threads: int | None,
    progress: Progress,
) -> ProtocolResult:
    """C by the mean loss of all folds; the fit of all rows at that C, brought to the final tolerance."""
    made = make_folds(y, folds, groups=groups, seed=seed)
    done = cross_validate(
        Z,
        y,
        n_classes,
        loss,
        grid,
        made,
        sample_weight=sample_weight,
        gap=CHOICE_GAP,
        max_iter=MAX_ITER,
        threads=threads,
        progress=progress,
    )
    fit, l2 = done.fit, float(done.l2[done.best])
    if not done.interrupted:
        fit = fit_linear(
            Z,
            y,
            n_classes,
            loss,
            l2=l2,
            sample_weight=sample_weight,
            tol=FINAL_TOL,
            gap=FINAL_GAP,
            max_iter=MAX_ITER,
            start=(fit.weights, fit.bias),
            threads=threads,
        )
    drawn = f", seed {seed}" if isinstance(folds, int) else " as given"
    how = (
        f"cv: C = {done.C:.4g} of {len(done.Cs)} values, by the lowest mean loss over {len(made)} folds"
        f"{' of whole groups' if groups is not None else ''}{drawn}; fitted on all {len(Z):,} rows"
        f"{'; interrupted, best so far' if done.interrupted else ''}"
    )
    return ProtocolResult(
        "cv",
        done.C,
        l2,
        fit.weights,
        fit.bias,
        fit,
        done.points(),
        done.best,
        how,
        DEPARTURES["cv"],
        len(done.Cs) * (len(made) + 1) + (not done.interrupted),
        done.at_edge,
        done.interrupted or fit.solution.stop_reason is StopReason.INTERRUPTED,
        done.out_of_fold,
    )
