"""scikit-learn's own tests hold for our estimators, but for what the catalogue names; its quick part, in one pytest."""

import sys
from pathlib import Path

import pytest
import sklearn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from drop_in import run, table
from drop_in_catalogue import MODULES, NOT_OURS, VERSION, entries, explain

SLOW = (
    "test_multinomial_cv_iris",
    "test_logistic_cv_sparse",
    "test_ridge_sample_weight_consistency",
    "ridge_gcv",
    "ridgecv_sample_weight",
    "ridge_cv",
    "linear_model_regressor_coef_shape",
    "lr_cv_scores",
    "elastic_net_versus_sgd",
    "svr",
)
"""Left to `benchmarks/drop_in.py`: long, or of scikit-learn's regressors."""

pytestmark = pytest.mark.skipif(
    not sklearn.__version__.startswith(f"{VERSION}."),
    reason=f"the catalogue is of scikit-learn {VERSION}, here is {sklearn.__version__}",
)


@pytest.fixture(scope="module")
def records():
    return run(MODULES, without=(*NOT_OURS, *SLOW))


def test_our_classes_are_in_place(records):
    called = [record for record in records if record["called"]]
    assert len({record["test"].split("::")[0] for record in called}) == len(MODULES)
    assert sum(record["outcome"] == "passed" for record in called) > 300


def test_failures_are_in_the_catalogue(records):
    failed = [record for record in records if record["outcome"] == "failed"]
    unexplained = [(record["test"], record["message"][:200]) for record in failed if explain(record) is None]
    assert not unexplained, table(records)


def test_nothing_in_the_catalogue_passes_by_now(records):
    ran = {record["test"].split("[")[0] for record in records if record["outcome"] != "skipped"}
    explained = {explain(record) for record in records if record["outcome"] == "failed"}
    stale = {entry for entry in entries() if entry[1] in ran} - explained
    assert not stale


def test_dense_rows_mend_what_sparse_rows_break(records):
    """Sparse X is all that keeps these tests from holding, unless they are about sparse storage."""
    sparse = [record for record in records if "is a sparse" in (record.get("refusal") or "")]
    about_storage = ("test_logistic::test_large_sparse_matrix", "test_ridge::test_ridge_fit_intercept_sparse_")
    assert len(sparse) > 150
    assert not [r["test"] for r in sparse if r["second"] != "passed" and not r["test"].startswith(about_storage)]
