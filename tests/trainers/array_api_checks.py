"""The estimators on arrays of other libraries, with scikit-learn's array API dispatch; run by `test_array_api.py`.

SciPy reads SCIPY_ARRAY_API when it is imported, so that these checks need a process of their own.
"""

from __future__ import annotations

import warnings

import array_api_strict
import numpy as np
import pytest
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import estimator_checks_generator

from papershell.kernels import arrays
from papershell.trainers.logreg import LogisticRegression, LogisticRegressionCV

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])
ESTIMATORS = [
    LogisticRegression(),
    LogisticRegression(multi_class="ovr"),
    LogisticRegressionCV(max_iter=5, cv=3),
]
CHECKS = [
    (estimator, check)
    for wanted in ESTIMATORS
    for estimator, check in estimator_checks_generator(wanted, legacy=True)
    if "array_api" in str(check)
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learns_checks_of_the_array_api(estimator, check):
    check(estimator)


def torch_tensors(kind: str = "float32"):
    torch = pytest.importorskip("torch")
    return torch.as_tensor(X).to(getattr(torch, kind)), torch.as_tensor(Y)


@pytest.mark.parametrize("kind", arrays.KEPT)
@pytest.mark.parametrize("make", [LogisticRegression, lambda: LogisticRegressionCV(Cs=[0.1, 1.0], cv=3)])
def test_tensors_of_every_type_give_tensors(make, kind):
    torch = pytest.importorskip("torch")
    data, labels = torch_tensors(kind)
    with config_context(array_api_dispatch=True):
        model = make().set_params(max_iter=1000).fit(data, labels)
        found, p = model.predict(data), model.predict_proba(data)
        score = model.score(data, labels)
    assert all(isinstance(a, torch.Tensor) for a in (model.coef_, model.intercept_, model.n_iter_, found, p))
    plain = make().set_params(max_iter=1000).fit(data.to(torch.float64).numpy(), Y)
    assert score == pytest.approx(plain.score(data.to(torch.float64).numpy(), Y))
    assert model.coef_.dtype == (torch.float64 if kind in ("uint8", "int8", "float64") else torch.float32)
    np.testing.assert_array_equal(found.numpy(), plain.predict(data.to(torch.float64).numpy()))
    assert model.to_sklearn().coef_.shape == plain.coef_.shape


def test_classes_follow_the_labels_and_warm_starts_go_on():
    data, labels = torch_tensors("float64")
    with config_context(array_api_dispatch=True):
        model = LogisticRegression(warm_start=True, tol=1e-8, max_iter=1000).fit(data, NAMES[Y])
        assert set(model.predict(data)) == set(NAMES)
        assert model.fit(data, NAMES[Y]).n_iter_[0] <= 1
        mixed = LogisticRegression().fit(array_api_strict.asarray(X), labels)
        assert type(mixed.classes_) is type(labels)
        assert type(mixed.coef_).__module__.startswith("array_api_strict")


def test_half_features_that_are_not_finite_are_refused():
    data, labels = torch_tensors("float16")
    data[3, 1] = float("nan")
    with config_context(array_api_dispatch=True), warnings.catch_warnings():
        model = LogisticRegression().fit(data[4:], labels[4:])
        for call in (lambda: model.fit(data, labels), lambda: model.predict(data)):
            with pytest.raises(ValueError, match="X holds NaN or infinity in 1 rows, the first is row 3"):
                call()
