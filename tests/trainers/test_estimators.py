"""The estimators behave as scikit-learn's, and find the same optimum."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
from sklearn import linear_model
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from papershell.trainers.estimators import GAP
from papershell.trainers.logreg import LogisticRegression, LogisticRegressionCV

TIGHT = 1e-8  # tol of both sides where coefficients are compared
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # an optimum to a gradient of 1e-8 over curvatures of 1e-3 and more
# as scikit-learn checks its own: few iterations, three folds
CHECKED = [
    LogisticRegression(),
    LogisticRegression(multi_class="ovr"),
    LogisticRegressionCV(max_iter=5, cv=3, scoring="neg_log_loss"),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(CHECKED)
def test_they_are_scikit_learn_estimators(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def two_classes():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.mark.parametrize("options", [{}, {"C": 0.01}, {"class_weight": "balanced"}, {"fit_intercept": False}])
@pytest.mark.parametrize("data", ["iris", "two_classes"])
def test_the_optimum_is_scikit_learns(data, options, request):
    X, y = request.getfixturevalue(data)
    ours = LogisticRegression(tol=TIGHT, max_iter=1000, **options).fit(X, y)
    peer = linear_model.LogisticRegression(
        tol=TIGHT, max_iter=10_000, solver="newton-cholesky", **options
    ).fit(X, y)
    np.testing.assert_allclose(ours.coef_, peer.coef_, **CLOSE)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), **CLOSE)
    assert ours.coef_.shape == peer.coef_.shape and ours.intercept_.shape == peer.intercept_.shape
    assert ours.score(X, y) == peer.score(X, y)


def test_no_penalty(iris):
    X, y = iris
    y = np.where(np.arange(len(y)) % 7, y, (y + 1) % 3)  # not separable
    ours = LogisticRegression(C=np.inf, tol=TIGHT, max_iter=1000).fit(X, y)
    peer = linear_model.LogisticRegression(C=np.inf, tol=TIGHT, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), **CLOSE)


def test_one_vs_rest_is_one_regression_a_class(iris):
    X, y = iris
    ours = LogisticRegression(multi_class="ovr", tol=TIGHT, max_iter=1000).fit(X, y)
    for k in range(3):
        peer = linear_model.LogisticRegression(tol=TIGHT, max_iter=10_000).fit(X, y == k)
        np.testing.assert_allclose(ours.coef_[k], peer.coef_[0], **CLOSE)
    np.testing.assert_allclose(ours.predict_proba(X).sum(axis=1), 1.0)
    genuine = ours.to_sklearn()
    assert type(genuine).__module__.startswith("sklearn.")
    np.testing.assert_array_equal(genuine.predict(X), ours.predict(X))


@pytest.mark.parametrize("data", ["iris", "two_classes"])
def test_to_sklearn_predicts_the_same_and_pickles(data, request):
    X, y = request.getfixturevalue(data)
    ours = LogisticRegression(C=0.3).fit(X, y)
    genuine = pickle.loads(pickle.dumps(ours.to_sklearn()))
    assert type(genuine) is linear_model.LogisticRegression
    np.testing.assert_allclose(genuine.predict_proba(X), ours.predict_proba(X))
    assert pytest.approx(0.3) == genuine.C


def test_warm_start_goes_on_from_the_last_fit(iris):
    model = LogisticRegression(tol=TIGHT, max_iter=1000, warm_start=True).fit(*iris)
    cold = model.n_iter_[0]
    assert model.fit(*iris).n_iter_[0] < cold


def test_bytes_are_fitted_as_they_are():
    digits = load_digits()
    as_bytes, as_floats = digits.data.astype(np.uint8), digits.data
    ours = [
        LogisticRegression(C=1e-3, tol=1e-6, max_iter=1000).fit(X, digits.target)
        for X in (as_bytes, as_floats)
    ]
    np.testing.assert_allclose(ours[0].predict_proba(as_bytes), ours[1].predict_proba(as_floats), **CLOSE)


def test_strings_are_labels(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    assert set(LogisticRegression().fit(X, names).predict(X)) == set(names)


def test_it_works_in_a_pipeline_a_grid_search_and_joblib(iris, tmp_path):
    X, y = iris
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1.0]}
    )
    search.fit(X, y)
    joblib.dump(search.best_estimator_, tmp_path / "model")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model").predict(X), search.predict(X))
    assert clone(search.best_estimator_).get_params()["logisticregression__C"] in (0.1, 1.0)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("data", ["iris", "two_classes"])
def test_cross_validation_is_scikit_learns(data, refit, legacy, request):
    X, y = request.getfixturevalue(data)
    options = {
        "Cs": [0.01, 0.1, 1.0],
        "cv": StratifiedKFold(3),
        "refit": refit,
        "use_legacy_attributes": legacy,
    }
    ours = LogisticRegressionCV(tol=TIGHT, max_iter=1000, scoring="neg_log_loss", **options).fit(X, y)
    peer = linear_model.LogisticRegressionCV(
        tol=TIGHT,
        max_iter=10_000,
        scoring="neg_log_loss",
        l1_ratios=(0,),
        solver="newton-cholesky",
        **options,
    ).fit(X, y)
    np.testing.assert_allclose(ours.C_, peer.C_)
    np.testing.assert_allclose(ours.coef_, peer.coef_, **CLOSE)
    if legacy:
        for label, scores in peer.scores_.items():
            np.testing.assert_allclose(ours.scores_[label], scores.reshape(3, 3), **CLOSE)
    else:
        np.testing.assert_allclose(ours.scores_, peer.scores_, **CLOSE)
        assert ours.coefs_paths_.shape == peer.coefs_paths_.shape and ours.n_iter_.shape == peer.n_iter_.shape


def test_a_fold_without_a_class_is_solved():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), np.repeat([0, 1, 2], [18, 18, 4])
    splits = [(np.arange(36), np.arange(36, 40)), (np.arange(4, 40), np.arange(4))]
    model = LogisticRegressionCV(Cs=[0.1, 1.0], cv=splits, max_iter=1000).fit(X, y)
    assert np.isfinite(model.coefs_paths_).all() and model.predict(X).shape == (40,)


def test_a_fold_may_name_rows_twice_or_be_a_mask(iris):
    X, y = iris
    train, test = np.r_[np.arange(0, 150, 2), np.arange(0, 150, 6)], np.arange(1, 150, 2)
    options = {"tol": TIGHT, "max_iter": 1000}
    model = LogisticRegressionCV(Cs=[0.1], cv=[(train, test)], **options).fit(X, y)
    alone = LogisticRegression(C=0.1, **options).fit(X[train], y[train])
    np.testing.assert_allclose(model.coefs_paths_[0, 0, 0, :, :-1], alone.coef_, **CLOSE)
    mask = np.isin(np.arange(150), train)
    masked = LogisticRegressionCV(Cs=[0.1], cv=[(mask, ~mask)], **options).fit(X, y)
    alone = LogisticRegression(C=0.1, **options).fit(X[mask], y[mask])
    np.testing.assert_allclose(masked.coefs_paths_[0, 0, 0, :, :-1], alone.coef_, **CLOSE)


@pytest.mark.filterwarnings("ignore:'penalty' was deprecated")
@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticRegression(penalty="l1"), "L2"),
        (LogisticRegression(l1_ratio=0.5), "l1_ratio=0.5 is not supported"),
        (LogisticRegression(dual=True), "dual=True"),
        (LogisticRegression(solver="liblinear"), "penalizes the intercept"),
        (LogisticRegression(C=-1.0), "'C' parameter"),
        (LogisticRegressionCV(l1_ratios=[0.0, 0.5]), "l1_ratios"),
    ],
)
def test_what_it_cannot_fit_is_refused_in_one_sentence(estimator, message, iris):
    with pytest.raises(ValueError, match=message):
        estimator.fit(*iris)


def test_sparse_input_is_refused(iris):
    from scipy.sparse import csr_matrix

    with pytest.raises(TypeError, match="dense"):
        LogisticRegression().fit(csr_matrix(iris[0]), iris[1])


def test_stopping_short_is_a_warning_that_says_so(iris):
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge in 1 of 1 fits: max_iter"):
        LogisticRegression(max_iter=1, C=1e6).fit(*iris)


def loss_of(model, X, y) -> float:
    """The objective in float64, from the definition."""
    decisions = model.decision_function(X.astype(np.float64))
    logits = np.column_stack([np.zeros(len(y)), decisions]) if decisions.ndim == 1 else decisions
    top = logits.max(axis=1)
    losses = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(y)), y]
    return losses.sum() + (model.coef_**2).sum() / (2 * model.C)


@pytest.mark.parametrize("C", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("load", [load_digits, load_iris, load_breast_cancer])
def test_the_loss_exceeds_scikit_learns_by_no_more_than_is_proven(load, C):
    X, y = load(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    ours = LogisticRegression(C=C, max_iter=1000).fit(X, y)
    theirs = linear_model.LogisticRegression(C=C, max_iter=1000).fit(X, y)
    assert loss_of(ours, X, y) * (1 - GAP) <= loss_of(theirs, X, y)


def test_labels_may_be_a_tensor(iris):
    torch = pytest.importorskip("torch")
    X, y = iris
    ours = LogisticRegression().fit(torch.tensor(X), torch.tensor(y))
    np.testing.assert_array_equal(ours.coef_, LogisticRegression().fit(X, y).coef_)


def test_huge_weights_are_one_sentence_or_the_right_answer(iris):
    X, y = iris
    with pytest.raises(ValueError, match="sample_weight"):
        LogisticRegression().fit(X, y, sample_weight=np.full(len(y), 1e308))
    scaled = LogisticRegression(C=1e-200, tol=TIGHT).fit(X, y, sample_weight=np.full(len(y), 1e200))
    plain = LogisticRegression(C=1.0, tol=TIGHT).fit(X, y)
    np.testing.assert_allclose(scaled.coef_, plain.coef_, **CLOSE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("data", ["iris", "two_classes"])
def test_no_iteration_is_the_starting_point(data, request):
    X, y = request.getfixturevalue(data)
    model = LogisticRegression(max_iter=0).fit(X, y)
    assert model.n_iter_ == 0 and not model.coef_.any()


def test_softmax_coefficients_sum_to_zero_over_the_classes(iris):
    model = LogisticRegression(C=1e3).fit(*iris)
    np.testing.assert_allclose(model.coef_.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(model.intercept_.sum(), 0, atol=1e-12)


class Follower:
    """A callback of scikit-learn that keeps what it is shown."""

    def __init__(self):
        self.begun, self.ended = [], []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.begun.append((context.task_name, context.task_id, fitted_estimator))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.ended.append((context.task_name, context.task_id, fitted_estimator))


@pytest.mark.parametrize("multi_class", ["multinomial", "ovr"])
def test_callbacks_see_a_better_model_after_every_step(multi_class):
    pytest.importorskip("sklearn.callback")
    X, y = load_digits(return_X_y=True)
    seen = Follower()
    options = {"multi_class": multi_class, "C": 0.1}
    model = LogisticRegression(**options).set_callbacks(seen).fit(X / 16, y, np.ones(len(y)))
    steps = [task for task in seen.ended if task[0] == "lbfgs-iter"]
    assert [number for _, number, _ in steps] == list(range(model.n_iter_[0] + 1)) and steps[-1][2] is None
    assert len(seen.begun) == len(seen.ended) == len(steps) + 1
    losses = [log_loss(y, fitted.predict_proba(X / 16)) for _, _, fitted in (seen.begun[1], *steps[:-1])]
    assert losses[1] < losses[0] and losses[-1] < losses[0]
    np.testing.assert_array_equal(steps[-2][2].coef_, model.coef_)
    alone = LogisticRegression(**options).fit(X / 16, y)
    np.testing.assert_array_equal(model.coef_, alone.coef_)  # who looks on changes nothing


def test_the_cross_validation_warns_of_callbacks():
    with pytest.warns(UserWarning, match="calls no callbacks"):
        LogisticRegressionCV().set_callbacks(object())
