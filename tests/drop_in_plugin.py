"""pytest plugin: tests written for scikit-learn's classes meet lastlayer's under the same names.

    python -m pytest -p drop_in_plugin --drop-in-report FILE.json --pyargs sklearn.linear_model.tests.test_ridge

The names are replaced where a user's import finds them, in `sklearn.linear_model` and `sklearn.svm`, before the test
modules are read, for they build estimators at import, too. Whatever scikit-learn itself imports under these names is
imported before and stays its own.

A test that fails because an argument is refused by name, or because a message has other words, runs a second time. The
advice of refusals is followed there: X.toarray() for sparse X, the solver "lbfgs" for "liblinear", the primal for
``dual=True``; and messages may have any words. The test stays a failure; how the second run went is recorded beside it,
so that what the test says of other things is not lost.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.sparse import issparse

from lastlayer._errors import InputError

REPLACED = {
    "sklearn.linear_model": (
        ("LogisticRegression", "lastlayer.estimators.logistic_regression"),
        ("LogisticRegressionCV", "lastlayer.estimators.logistic_regression_cv"),
        ("Perceptron", "lastlayer.estimators.perceptron"),
        ("Ridge", "lastlayer.estimators.ridge"),
        ("RidgeClassifier", "lastlayer.estimators.ridge_classifier"),
        ("RidgeClassifierCV", "lastlayer.estimators.ridge_classifier_cv"),
    ),
    "sklearn.svm": (("LinearSVC", "lastlayer.estimators.linear_svc"),),
}
"""Where users import from: the names there, and the modules that have them here."""

METHODS = ("__init__", "fit", "predict", "predict_proba", "predict_log_proba", "decision_function", "score")
"""Methods whose calls show that a test is about our classes."""

ADVISED = (("solver", "liblinear", "lbfgs"), ("dual", True, False))
"""Arguments that are refused with a value to take instead."""

ADVICE = ("sparse", "solver='liblinear'", "dual=True")
"""Words of the refusals that a second run can heed."""

OTHER_WORDS = "Regex pattern did not match"
"""How pytest says that an error or warning came with other words."""

LONGEST = 400
"""Characters kept of an error's message."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the outcomes go, and whether to leave scikit-learn's classes in place for comparison."""
    parser.addoption("--drop-in-report", type=Path, help="JSON file for the outcomes")
    parser.addoption("--drop-in-original", action="store_true", help="replace nothing")


def pytest_configure(config: pytest.Config) -> None:
    """Replace the names, and begin the list of outcomes."""
    outcomes = Outcomes(config.getoption("--drop-in-report"))
    if not config.getoption("--drop-in-original"):
        replace([argument.split("::")[0] for argument in config.args], outcomes)
    config.pluginmanager.register(outcomes)


def replace(modules: list[str], outcomes: Outcomes) -> None:
    """Put our classes in place for test modules that are imported from now on."""
    for name in modules:
        importlib.import_module(name)
        del sys.modules[name]
    for package, pairs in REPLACED.items():
        for name, home in pairs:
            ours = getattr(importlib.import_module(home), name)
            for method in METHODS:
                if hasattr(ours, method):
                    setattr(ours, method, watched(getattr(ours, method), outcomes))
            setattr(importlib.import_module(package), name, ours)


def watched(method: Callable[..., Any], outcomes: Outcomes) -> Callable[..., Any]:
    """The method, noting that it was called, and heeding refusals in second runs."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        outcomes.called = True
        if not outcomes.heeding or method.__name__ == "__init__":
            return method(self, *args, **kwargs)
        args = tuple(value.toarray() if issparse(value) else value for value in args)
        given = {name: getattr(self, name) for name, refused, _ in ADVISED if getattr(self, name, None) == refused}
        for name, _, instead in ADVISED:
            if name in given:
                setattr(self, name, instead)
        try:
            return method(self, *args, **kwargs)
        finally:
            for name, value in given.items():
                setattr(self, name, value)

    return call


class Outcomes:
    """One record for every test: its name, how it went, and for a failure the error, its message and the line.

    Attributes
    ----------
    called : bool
        Whether the test at hand has called our classes.
    heeding : bool
        Whether this is a second run.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.records: dict[str, dict[str, Any]] = {}
        self.called = False
        self.heeding = False

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Any:
        self.called = False
        record = self._record(pyfuncitem)
        try:
            return (yield)
        except (Exception, pytest.fail.Exception) as error:
            record["refusal"] = refusal = _refusal(error)
            if OTHER_WORDS in str(error) or any(words in (refusal or "") for words in ADVICE):
                record["second"] = self._second_run(pyfuncitem)
            raise
        finally:
            record["called"] = self.called

    def _second_run(self, item: pytest.Function) -> str:
        """How the test goes when advice is followed and words are free: "passed", or the error."""
        self.heeding = True
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name in ("raises", "warns"):
                    patch.setattr(pytest, name, functools.partial(_any_words, getattr(pytest, name)))
                item.obj(**{name: item.funcargs[name] for name in item._fixtureinfo.argnames})
        except (Exception, pytest.fail.Exception) as error:
            return f"{type(error).__name__}: {error}"[:LONGEST]
        finally:
            self.heeding = False
        return "passed"

    def _record(self, item: pytest.Item) -> dict[str, Any]:
        name = f"{Path(item.location[0]).stem}::{item.nodeid.split('::', 1)[1]}"
        return self.records.setdefault(name, {"test": name, "outcome": "passed", "called": False, "seconds": 0.0})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        record = self._record(item)
        record["seconds"] += call.duration
        if report.outcome != "passed" and record["outcome"] == "passed":
            record["outcome"] = "xfailed" if hasattr(report, "wasxfail") else report.outcome
            if call.excinfo is not None:
                record |= _error(call.excinfo, Path(item.location[0]).name)
        return report

    def pytest_sessionfinish(self) -> None:
        if self.file is not None:
            self.file.write_text(json.dumps(list(self.records.values()), indent=1), encoding="utf-8")


def _any_words(context: Callable[..., Any], *args: Any, match: Any = None, **kwargs: Any) -> Any:
    """`pytest.raises` or `pytest.warns`, whatever the words."""
    return context(*args, **kwargs)


def _refusal(error: BaseException | None) -> str | None:
    """The message of our error, be it the failure itself or what a test caught and found different."""
    while error is not None:
        if isinstance(error, InputError):
            return str(error)[:LONGEST]
        error = error.__cause__ or error.__context__
    return None


def _error(info: pytest.ExceptionInfo[BaseException], module: str) -> dict[str, Any]:
    lines = [entry.lineno + 1 for entry in info.traceback if Path(str(entry.path)).name == module]
    return {
        "error": type(info.value).__name__,
        "message": str(info.value)[:LONGEST],
        "line": lines[-1] if lines else None,
    }
