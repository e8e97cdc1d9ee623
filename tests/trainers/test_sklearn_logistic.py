"""scikit-learn's own tests of LogisticRegression and LogisticRegressionCV (its lbfgs cases), run on papershell's.

The source of the installed scikit-learn's test module is executed with our estimators in the place of its own.
`EXCEPTIONS` lists each test that does not apply, with the reason.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("sklearn.callback", reason="the tests of scikit-learn 1.9 and later")

LIBLINEAR = "solver='liblinear' penalizes the intercept, so papershell refuses it"
L1 = "papershell fits an L2 penalty or none; another one is refused in one sentence"
SOLVERS = "papershell has one method: it takes the names of scikit-learn's other solvers and ignores them"
PRIVATE = "it tests a private function of scikit-learn"
DEFAULTS = "papershell's defaults are those of scikit-learn 1.10, so there is no change to warn of"
SPARSE = "sparse X is refused in one sentence"
INFINITE = (
    "the optimum of a fold without a class is at infinity; how far each C goes there decides which one wins"
)

EXCEPTIONS = {  # by the name of a test, or by the beginning of the name of a case
    "test_check_solver_option": LIBLINEAR,
    "test_liblinear_dual_random_state": LIBLINEAR,
    "test_logistic_cv": LIBLINEAR,
    "test_sample_and_class_weight_equivalence_liblinear": LIBLINEAR,
    "test_liblinear_decision_function_zero": LIBLINEAR,
    "test_logisticregression_liblinear_sample_weight": LIBLINEAR,
    "test_liblinear_with_large_values": LIBLINEAR,
    "test_liblinear_not_stuck": LIBLINEAR,
    "test_liblinear_multiclass_raises": LIBLINEAR,
    "test_max_iter[liblinear": LIBLINEAR,
    "test_max_iter[newton": SOLVERS,
    "test_max_iter[sag": SOLVERS,
    "test_warm_start_newton_solver": SOLVERS,
    "test_newton_cholesky_fallback_to_lbfgs": SOLVERS,
    "test_elasticnet_l1_ratio_err_helpful": L1,
    "test_logreg_l1": L1,
    "test_logistic_regression_cv_refit[1]": L1,
    "test_saga_vs_liblinear": L1,
    "test_elastic_net_coeffs": L1,
    "test_elastic_net_l1_l2_equivalence": L1,
    "test_elastic_net_vs_l1_l2": L1,
    "test_LogisticRegression_elastic_net_objective": L1,
    "test_LogisticRegressionCV_GridSearchCV_elastic_net": L1,
    "test_LogisticRegressionCV_no_refit[2-l1_ratios1]": L1,
    "test_LogisticRegressionCV_no_refit[3-l1_ratios1]": L1,
    "test_LogisticRegressionCV_elasticnet_attribute_shapes": L1,
    "test_l1_ratio_non_elasticnet": L1,
    "test_elastic_net_versus_sgd": L1,
    "test_scores_attribute_layout_elasticnet": L1,
    "test_lr_penalty_l1ratio_incompatible": L1,
    "test_consistency_path": PRIVATE,
    "test_logistic_regression_path_convergence_fail": PRIVATE,
    "test_logistic_cv_multinomial_score": PRIVATE,
    "test_logistic_regression_path_coefs_multinomial": PRIVATE,
    "test_logistic_regression_path_init_coefs": PRIVATE,
    "test_logisticregressioncv_warns_with_use_legacy_attributes": DEFAULTS,
    "test_l1_ratio_None_deprecated": DEFAULTS,
    "test_lr_scoring_warns": DEFAULTS,
    "test_large_sparse_matrix": SPARSE,
    "test_logistic_cv_folds_with_classes_missing": INFINITE,
}
CHANGES = {  # of the text of scikit-learn's module
    "from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier\n": (
        "from sklearn.linear_model import SGDClassifier\n"
        "from papershell.trainers.estimators import LogisticRegression, LogisticRegressionCV\n"
    ),
    '"lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga")': '"lbfgs",)',
    "    CSR_CONTAINERS,\n": "",  # dense arrays in the place of sparse ones, which are refused
    "pytestmark = pytest": "CSR_CONTAINERS = [np.array]\npytestmark = pytest",
    "@pytest.mark.thread_unsafe\n": "",
}


def load_suite() -> ModuleType:
    path = importlib.util.find_spec("sklearn.linear_model.tests.test_logistic").origin
    text = Path(path).read_text(encoding="utf-8")
    for theirs, ours in CHANGES.items():
        assert theirs in text, f"scikit-learn's tests changed: {theirs!r} is gone"
        text = text.replace(theirs, ours)
    module = ModuleType("scikit_learns_tests")
    exec(compile(text, path, "exec"), vars(module))
    return module


def skipped(reason: str) -> Callable[[], None]:
    """A whole test that does not apply, as one skip instead of one a case."""

    @pytest.mark.skip(reason=reason)
    def test() -> None: ...

    return test


ARRAY_API = "test_array_api.py runs it in a process in which SCIPY_ARRAY_API is set"
if "SCIPY_ARRAY_API" not in os.environ:
    for kind in ("compliance", "warm_start"):
        EXCEPTIONS[f"test_logistic_regression_array_api_{kind}"] = ARRAY_API
SUITE = {name: value for name, value in vars(load_suite()).items() if name.startswith("test_")}
globals().update({name: skipped(EXCEPTIONS[name]) if name in EXCEPTIONS else SUITE[name] for name in SUITE})
pytestmark = [
    pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The default value for l1_ratios.*:FutureWarning"),
]


@pytest.fixture
def global_random_seed() -> int:
    """The seed that scikit-learn's own tests take by default."""
    return 42


@pytest.fixture(autouse=True)
def applies(request: pytest.FixtureRequest) -> None:
    """Skip a case of a test whose other cases apply."""
    for name, reason in EXCEPTIONS.items():
        if "[" in name and request.node.name.startswith(name):
            pytest.skip(reason)


def test_each_exception_is_a_test_of_scikit_learn() -> None:
    assert {name.partition("[")[0] for name in EXCEPTIONS} <= set(SUITE)
