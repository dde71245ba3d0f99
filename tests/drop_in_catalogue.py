"""Which of scikit-learn's own tests do not hold for lastlayer's estimators, by name, and why.

Written against scikit-learn `VERSION`. A failing test is explained by the first of

* `REFUSED`: an argument or input that is refused by name; the refusal itself must be in the failure,
* `WORDS`: an error or warning that came, of the right type, with other words; all else in the test must hold,
* `DIFFERENT`: what is meant to be different, or not there,
* `OPEN`: what should hold, and does not yet.

Whatever is not explained is a defect, and an entry that explains nothing any more is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

VERSION = "1.9"

MODULES = (
    "sklearn.linear_model.tests.test_logistic",
    "sklearn.linear_model.tests.test_perceptron",
    "sklearn.svm.tests.test_svm",
    "sklearn.linear_model.tests.test_common",
    "sklearn.linear_model.tests.test_ridge",
)
"""The modules with the tests of the classes."""

NOT_OURS = ("lbfgs_solver_consistency", "test_ridge_cv_results_predictions", "ridge_gcv_vs_ridge_loo_cv")
"""Long tests of scikit-learn's RidgeCV and of its functions: none of our classes is called in them."""

OTHER_WORDS = "Regex pattern did not match"
"""How pytest says that an error or warning came with other words."""

REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "sparse X": (
        "is a sparse",
        (
            "test_common::test_model_pipeline_same_dense_and_sparse",
            "test_logistic::test_dtype_match",
            "test_logistic::test_large_sparse_matrix",
            "test_logistic::test_logistic_cv_sparse",
            "test_logistic::test_logistic_regression_class_weights",
            "test_logistic::test_predict_2_classes",
            "test_logistic::test_predict_3_classes",
            "test_perceptron::test_perceptron_accuracy",
            "test_ridge::test_dense_sparse",
            "test_ridge::test_regularization_limits_ridge",
            "test_ridge::test_regularization_limits_ridge_classifier_gcv",
            "test_ridge::test_ridge_classifier_with_scoring",
            "test_ridge::test_ridge_fit_intercept_sparse",
            "test_ridge::test_ridge_fit_intercept_sparse_error",
            "test_ridge::test_ridge_fit_intercept_sparse_sag",
            "test_ridge::test_ridge_regression_custom_scoring",
            "test_ridge::test_ridge_regression_sample_weights",
            "test_ridge::test_ridge_sample_weight_consistency",
            "test_ridge::test_solver_consistency",
            "test_ridge::test_sparse_design_with_sample_weights",
        ),
    ),
    "solver='liblinear', which penalises the intercept": (
        "solver='liblinear'",
        (
            "test_logistic::test_check_solver_option",
            "test_logistic::test_dtype_match",
            "test_logistic::test_large_sparse_matrix",
            "test_logistic::test_liblinear_decision_function_zero",
            "test_logistic::test_liblinear_multiclass_raises",
            "test_logistic::test_liblinear_with_large_values",
            "test_logistic::test_logistic_cv",
            "test_logistic::test_logistic_cv_sparse",
            "test_logistic::test_logistic_regression_class_weights",
            "test_logistic::test_logistic_regression_sample_weights",
            "test_logistic::test_logistic_regression_solver_class_weights",
            "test_logistic::test_logistic_regression_solvers",
            "test_logistic::test_logisticregression_liblinear_sample_weight",
            "test_logistic::test_max_iter",
            "test_logistic::test_n_iter",
            "test_logistic::test_saga_vs_liblinear",
            "test_logistic::test_zero_max_iter",
        ),
    ),
    "an L1 penalty": (
        "l1_ratio|penalty='(l1|elasticnet)'",
        (
            "test_logistic::test_LogisticRegressionCV_GridSearchCV_elastic_net",
            "test_logistic::test_LogisticRegressionCV_elasticnet_attribute_shapes",
            "test_logistic::test_LogisticRegressionCV_no_refit",
            "test_logistic::test_LogisticRegression_elastic_net_objective",
            "test_logistic::test_elastic_net_coeffs",
            "test_logistic::test_elastic_net_l1_l2_equivalence",
            "test_logistic::test_elastic_net_versus_sgd",
            "test_logistic::test_elastic_net_vs_l1_l2",
            "test_logistic::test_elasticnet_l1_ratio_err_helpful",
            "test_logistic::test_l1_ratio_non_elasticnet",
            "test_logistic::test_liblinear_not_stuck",
            "test_logistic::test_logistic_regression_cv_refit",
            "test_logistic::test_logisticregression_liblinear_sample_weight",
            "test_logistic::test_logreg_l1",
            "test_logistic::test_lr_penalty_l1ratio_incompatible",
            "test_logistic::test_saga_vs_liblinear",
            "test_logistic::test_sample_and_class_weight_equivalence_liblinear",
            "test_logistic::test_scores_attribute_layout_elasticnet",
            "test_perceptron::test_perceptron_l1_ratio",
            "test_svm::test_dense_liblinear_intercept_handling",
            "test_svm::test_linearsvc",
            "test_svm::test_linearsvc_parameters",
            "test_svm::test_linearsvm_liblinear_sample_weight",
        ),
    ),
    "dual=True": (
        "dual=True",
        (
            "test_logistic::test_liblinear_dual_random_state",
            "test_logistic::test_logisticregression_liblinear_sample_weight",
        ),
    ),
    "intercept_scaling": ("intercept_scaling", ("test_logistic::test_consistency_path",)),
    "multi_class='crammer_singer'": (
        "multi_class=",
        ("test_svm::test_crammer_singer_binary", "test_svm::test_linearsvc_crammer_singer"),
    ),
    "positive=True": (
        "positive=True",
        (
            "test_ridge::test_dtype_match",
            "test_ridge::test_positive_ridge_loss",
            "test_ridge::test_ridge_fit_intercept_sparse",
            "test_ridge::test_ridge_ground_truth_positive_test",
            "test_ridge::test_ridge_positive_regression_test",
            "test_ridge::test_ridge_sample_weight_consistency",
        ),
    ),
    "several labels a row": (
        "takes one label a row",
        ("test_ridge::test_ridge_classifier_cv_store_cv_results", "test_ridge::test_ridgeclassifier_multilabel"),
    ),
    "one class only": (
        "one class only|are all of class",
        (
            "test_common::test_model_pipeline_same_dense_and_sparse",
            "test_logistic::test_logistic_cv_folds_with_classes_missing",
        ),
    ),
    "no finite optimum": ("no finite optimum exists", ("test_logistic::test_c_inf_no_warning",)),
}
"""What is refused: words of the refusal, and the tests that meet it."""

WORDS = (
    "test_logistic::test_max_iter",
    "test_logistic::test_nan",
    "test_ridge::test_raises_value_error_if_sample_weights_greater_than_1d",
    "test_ridge::test_ridge_individual_penalties",
    "test_ridge::test_ridgecv_alphas_validation",
    "test_ridge::test_ridgecv_alphas_zero",
    "test_svm::test_linear_svm_convergence_warnings",
)
"""Tests that hold but for the words of an error or a warning."""

FUTURE = "announces a future default of scikit-learn's; there is none here"
PRIVATE = "calls a private function or method of scikit-learn's"
CALLBACKS = "scikit-learn's callbacks: progress is shown by verbose=1 here"
DIFFERENT = {
    "test_logistic::test_get_default_scorer": PRIVATE,
    "test_logistic::test_l1_ratio_None_deprecated": FUTURE,
    "test_logistic::test_logistic_cv_multinomial_score": PRIVATE + ", whose looser fit differs in the sixth digit",
    "test_logistic::test_logistic_regression_callback_fitted_estimator": CALLBACKS,
    "test_logistic::test_logistic_regression_callback_support": CALLBACKS,
    "test_logistic::test_logistic_regression_callback_support_warning": CALLBACKS,
    "test_logistic::test_logisticregression_warns_with_n_jobs": FUTURE + ": n_jobs is the number of threads",
    "test_logistic::test_logisticregressioncv_warns_with_use_legacy_attributes": FUTURE,
    "test_logistic::test_logreg_predict_proba_multinomial": PRIVATE,
    "test_logistic::test_lr_scoring_warns": FUTURE,
    "test_logistic::test_newton_cholesky_fallback_to_lbfgs": "steps of one algorithm: no Newton step fails here",
    "test_logistic::test_penalty_deprecated": FUTURE + ": penalty stays an argument",
    "test_logistic::test_penalty_none": "penalty=None is C=inf, without a warning that C counts no more",
    "test_logistic::test_sparsify": "sparse coefficients (sparsify) are for L1 penalties, which are refused",
    "test_logistic::test_warm_start_newton_solver": "steps of one algorithm: two Newton steps; L-BFGS has a memory",
    "test_perceptron::test_perceptron_correctness": "weights that have not separated the classes are averaged",
    "test_ridge::test_lbfgs_solver_error": "the solver is exact: max_iter does not cut it short",
    "test_ridge::test_n_iter": "steps of one algorithm: the solver is exact, with one step for every target",
    "test_ridge::test_ridgecv_alphas_validation": "a word among alphas is an InputError, a ValueError, not a TypeError",
    "test_svm::test_linearsvc_parameters": "the hinge with dual=False is solved, not refused",
}
"""What is meant to be different: reasons by test."""

OPEN: dict[str, str] = {}
"""Behaviour that should become scikit-learn's: what is the matter, by test."""


def explain(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which entry explains a failure: its list with the reason, and the test's name; None for a defect."""
    test, refusal = str(record["test"]).split("[")[0], record.get("refusal") or ""
    for what, (words, tests) in REFUSED.items():
        if test in tests and re.search(words, refusal):
            return f"refused by name: {what}", test
    if test in WORDS and OTHER_WORDS in record["message"] and record.get("second") == "passed":
        return "other words", test
    for title, tests_and_reasons in (("different", DIFFERENT), ("open", OPEN)):
        if test in tests_and_reasons:
            return f"{title}: {tests_and_reasons[test]}", test
    return None


def entries() -> set[tuple[str, str]]:
    """Everything that `explain` can answer."""
    found = {(f"refused by name: {what}", test) for what, (_, tests) in REFUSED.items() for test in tests}
    found |= {("other words", test) for test in WORDS}
    found |= {(f"different: {reason}", test) for test, reason in DIFFERENT.items()}
    return found | {(f"open: {reason}", test) for test, reason in OPEN.items()}
