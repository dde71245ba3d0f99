"""The harness of `make bench-solvers`: clock, traces, gaps and verdicts, and a tiny problem from end to end."""

import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from lastlayer.losses import by_name
from lastlayer.objective import Objective
from peers.fits import Fits, Settings
from peers.job import Job
from peers.objective import Judged, objective
from peers.running import Run, run
from peers.sklearn_logistic import unpack
from peers.tables import Entry, compare, entry, full_table, issue_table
from peers.trace import CutError, ReachedError, Snapshots, Trace
from problems import PROBLEMS, Built, Problem, Source, build


def some_problem(n=400, d=6, k=3):
    rng = np.random.default_rng(0)
    y = rng.integers(0, k, n)
    X = rng.standard_normal((n, d)) + rng.standard_normal((k, d))[y]
    return X.astype(np.float32), y.astype(np.int32)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge", "hinge"])
def test_the_judge_agrees_with_the_package(loss):
    X, y = some_problem()
    params = np.random.default_rng(1).standard_normal((7, 3))
    ours = Objective(X.astype(np.float64), y, 3, by_name(loss), 0.3)
    inside = ours.to_inside(params[:-1], params[-1])
    assert objective(X, y, loss, 0.3, params) == pytest.approx(ours.value(inside), rel=1e-12)


def test_the_judge_takes_some_rows():
    X, y = some_problem()
    rows = np.arange(0, 400, 3)
    params = np.random.default_rng(1).standard_normal((7, 3))
    some = objective(X, y, "cross_entropy", 0.3, params, rows)
    assert some == pytest.approx(objective(X[rows], y[rows], "cross_entropy", 0.3, params), rel=1e-14)


def parameters(value):
    return np.full((2, 2), value), np.zeros(2)


def test_the_clock_stands_still_while_snapshots_are_taken(tmp_path):
    trace = Trace(tmp_path, (3, 2), "float64", 100.0)
    trace.begin()

    def slow():
        time.sleep(0.2)
        return parameters(1.0)

    trace.snapshot(slow)
    with trace.pause():
        time.sleep(0.2)
    assert trace.seconds < 0.1
    trace.close()


def test_snapshots_are_read_back(tmp_path):
    trace = Trace(tmp_path, (3, 2), "float32", 100.0)
    trace.snapshot(lambda: parameters(9.0))  # before `begin`: the warm-up leaves nothing
    trace.begin()
    trace.snapshot(lambda: parameters(1.0))
    trace.snapshot(lambda: parameters(2.0), last=True)
    trace.close()
    found = Snapshots.of(tmp_path)
    assert len(found) == 2
    assert found.params(1).tolist() == [[2, 2], [2, 2], [0, 0]]
    assert 0 <= found.seconds(0) <= found.seconds(1) < 5


def test_trial_points_count_only_when_they_are_the_lowest(tmp_path):
    trace = Trace(tmp_path, (3, 2), "float64", 100.0)
    trace.begin()
    for value in (5.0, 7.0, 4.0):
        time.sleep(0.01)
        trace.snapshot(lambda value=value: parameters(value), value=value)
    trace.close()
    found = Snapshots.of(tmp_path)
    assert [found.params(i)[0, 0] for i in range(len(found))] == [5.0, 4.0]


def test_a_fit_is_stopped_at_its_limit_and_at_its_target(tmp_path):
    trace = Trace(tmp_path, (3, 2), "float64", 0.0)
    trace.begin()
    with pytest.raises(CutError):
        trace.snapshot(lambda: parameters(1.0))
    trace.limit = 100.0
    trace.stop_at(3.0, lambda params: float(params[0, 0]))
    trace.begin()
    trace.snapshot(lambda: parameters(4.0), last=True)
    time.sleep(0.01)
    with pytest.raises(ReachedError):
        trace.snapshot(lambda: parameters(3.0), last=True)
    trace.close()


def judged(tmp_path, values, limit=100.0):
    trace = Trace(tmp_path, (3, 2), "float64", 1000.0)
    for second, value in enumerate(values):
        trace.write(float(second), *parameters(value))
    trace.close()
    return Judged(Snapshots.of(tmp_path), lambda params: float(params[0, 0]), limit)


def test_the_time_to_a_value_is_that_of_the_first_record_there(tmp_path):
    values = [9.0, 7.0, 7.0, 4.0, 3.5, 3.0, 2.0, 1.5]
    found = judged(tmp_path, values)
    for wanted in (10.0, 9.0, 7.5, 4.0, 3.2, 2.0, 1.5):
        assert found.time_to(wanted) == next(t for t, value in enumerate(values) if value <= wanted)
    assert found.time_to(1.0) is None
    assert found.lowest == 1.5


def test_records_after_the_limit_do_not_count(tmp_path):
    found = judged(tmp_path, [9.0, 7.0, 3.0], limit=1.5)
    assert found.lowest == 7.0 and found.time_to(5.0) is None


def test_parameters_of_both_layouts():
    W, b = np.arange(8.0).reshape(4, 2), np.array([10.0, 20.0])
    last, first = np.vstack([W, b]).T, np.vstack([b, W]).T
    for flat, bias_first in ((last.ravel(order="F"), False), (first.ravel(), True)):
        found = unpack(flat, 2, bias_first)
        assert np.array_equal(found[0], W) and np.array_equal(found[1], b)


def arrived(name, seconds):
    return Entry(name, "float32", "reached", seconds, None, 1e-5)


CUT = Entry("slow", "float32", "cut", None, 30.0, 0.1)
NEVER = Entry("stuck", "float32", "done", None, None, 0.2)
MISSING = Entry("other", "float32", "absent", None, None, None, "not installed")


@pytest.mark.parametrize(
    ("peers", "ratio", "met"),
    [
        ([arrived("a", 20.0), arrived("b", 12.0)], "6.0×", "yes"),
        ([arrived("a", 9.0), CUT], "4.5×", "no"),
        ([arrived("a", 40.0), CUT], "> 15.0×", "yes"),
        ([replace(CUT, at_least=8.0), NEVER], "> 4.0×", "unknown: cut too early"),
        ([NEVER, MISSING], "∞", "yes"),
        ([MISSING], "", ""),
    ],
)
def test_verdicts(peers, ratio, met):
    row = compare("p", "0.0001", arrived("lastlayer", 2.0), peers, 5.0)
    assert (row.ratio, row.met) == (ratio, met)
    assert "lastlayer" in full_table([row]) and row.problem in issue_table([row])


def test_ours_must_arrive():
    assert compare("p", "0.0001", CUT, [arrived("a", 9.0)], 5.0).met.startswith("no")


def test_a_median_of_runs(tmp_path):
    runs = []
    for number, values in enumerate(([5.0, 1.0], [5.0, 4.0, 3.0, 1.0], [5.0, 4.0, 1.0])):
        folder = tmp_path / str(number)
        folder.mkdir()
        runs.append(Run("a", "float32", "reached", judged=judged(folder, values)))
    assert entry([runs], 1.0001, 1.0).seconds == 2.0


def test_the_best_configuration_counts(tmp_path):
    def runs(name, values, status):
        folder = tmp_path / name
        folder.mkdir()
        return [Run(name, name, status, seconds=9.0, limit=50.0, judged=judged(folder, values))]

    fast, exact = runs("float32", [5.0, 2.0, 1.5], "done"), runs("float64", [5.0, 4.0, 3.0, 2.0, 1.2], "cut")
    assert [entry([fast, exact], value, 1.0).seconds for value in (2.0, 1.3)] == [1.0, 4.0]
    neither = entry([fast, exact], 1.1, 1.0)
    assert (neither.seconds, neither.at_least, neither.dtype) == (None, 50.0, "float64")


def test_synthetic_rows_are_reproducible_and_have_every_class(tmp_path):
    a = build("probe", Source(tmp_path / "a", scale=0.02))
    b = build("probe", Source(tmp_path / "b", scale=0.02))
    assert a.digest == b.digest and a.shape == (1000, 512)
    assert len(np.unique(np.load(a.y))) == a.n_classes


def test_every_problem_names_contestants_that_exist():
    from peers import CONTESTANTS

    assert {peer for problem in PROBLEMS for peer in problem.peers} <= set(CONTESTANTS)
    assert len({problem.name for problem in PROBLEMS}) == len(PROBLEMS)


def test_a_missing_interpreter_is_absent(tmp_path):
    job = Job(str(tmp_path / "x"), "torch_lbfgs", {}, "", "", 3, "cross_entropy", 0.1, True)
    assert run("torch-lbfgs-10", job, None, None).status == "absent"
    found = run("torch-lbfgs-10", job, tmp_path / "python", None)
    assert found.status == "absent" and "does not exist" in found.reason


def test_a_tiny_problem_from_end_to_end(tmp_path):
    X, y = some_problem()
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    built = Built(tmp_path / "X.npy", tmp_path / "y.npy", hashlib.sha256(X.tobytes()).hexdigest(), X.shape, 3)
    peers = ("sklearn-newton-cg", "sklearn-lbfgs", "torch-lbfgs-10")
    problem = Problem("tiny", "tiny", "none", l2=1e-2, targets={1e-4: 1e-9}, peers=peers)
    settings = Settings(tmp_path / "work", None, peers, repeats=1, limit=30.0, cut_at_target=False)
    (row,) = Fits(problem, built, settings).rows()

    from lastlayer.selection import fit_linear

    best = fit_linear(X.astype(np.float64), y, 3, l2=1e-2, tol=1e-12, gap=1e-15)
    optimum = objective(X, y, "cross_entropy", 1e-2, np.vstack([best.weights, best.bias]))
    kept = (tmp_path / "work" / "references").glob("*.json")
    assert optimum == pytest.approx(float(next(kept).read_text().split('"value": ')[1].split(",")[0]), rel=1e-9)
    assert row.met == "yes" and [e.contestant for e in row.entries] == ["lastlayer", *peers]
    assert [e.status for e in row.entries[3:]] == ["absent"]
    for found in row.entries[:3]:
        assert 0 < found.seconds < 30 and 0 <= found.gap <= 1e-4
        trace = Snapshots.of(tmp_path / "work" / "runs" / "tiny" / f"{found.contestant}-float32-0")
        values = [objective(X, y, "cross_entropy", 1e-2, trace.params(i)) for i in range(len(trace))]
        first = next(i for i, value in enumerate(values) if value <= optimum * (1 + 1e-4))
        assert trace.seconds(first) == found.seconds
