"""Whole solves on 10,000 MNIST images and on the digits, to the objective that a referee evaluates in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from papershell.benchmarks.measure import Measure, need
from papershell.benchmarks.solver import SCALE, fit, objective, sklearn_fit, torch_lbfgs
from papershell.kernels import fit_path

ROWS, FOLD_ROWS = 10_000, 1_000
LBFGS = "scikit-learn lbfgs(max_iter=1000)"
LARGEST_GAP = 2e-2  # relative; scikit-learn's default stops about there at weak regularization
TOL, PATH_TOL = 1e-4, 3e-5  # the weakest rates of a path need the smaller one for that gap
Coefficients = tuple[np.ndarray, np.ndarray]


def gap_to(X: np.ndarray, y: np.ndarray, l2: float, optimum: float) -> Callable[[Coefficients], float]:
    """Return what measures coefficients and intercepts: their objective, relative to the optimum."""
    return lambda found: objective(X, y, *found, l2) / optimum - 1


def sklearn_coefficients(X: np.ndarray, y: np.ndarray, l2: float, **options: Any) -> Coefficients:
    """scikit-learn's fit."""
    model = sklearn_fit(X, y, l2, **options)
    return model.coef_, model.intercept_


def our_coefficients(X: np.ndarray, y: np.ndarray, l2: float, backend: str) -> Coefficients:
    """Ours."""
    found = fit(X, y, [l2], TOL, backend=backend)
    return found.coef[0], found.intercept[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [LBFGS, "scikit-learn newton-cg", "PyTorch LBFGS, float32", "numba", "torch", "cupy"]
)
def test_one_rate(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str) -> None:
    X, y, l2 = images[:ROWS], labels[:ROWS], 1.0
    pixels = X * SCALE
    calls: dict[str, Callable[[], Coefficients]] = {
        LBFGS: partial(sklearn_coefficients, pixels, y, l2, max_iter=1000),
        "scikit-learn newton-cg": partial(sklearn_coefficients, pixels, y, l2, solver="newton-cg"),
        "PyTorch LBFGS, float32": partial(torch_lbfgs, pixels, y, l2),
    }
    backend = "" if case in calls else case
    need(backend or "torch")
    calls |= {name: partial(our_coefficients, X, y, l2, name) for name in (backend,) if name}
    best = fit(X, y, [l2], 1e-9, max_iter=5000).loss[0]
    measure(
        calls, case, group=f"one rate, {ROWS:,} images", error=gap_to(pixels, y, l2, best), tolerance=LARGEST_GAP,
        dtype="float64", backend=backend,
    )  # fmt: skip


RATES = np.logspace(-1, 4, 16)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["one rate after another", "sixteen in one batch"])
def test_sixteen_rates(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str) -> None:
    X, y = images[:ROWS], labels[:ROWS]
    best = fit(X, y, RATES, 1e-8, max_iter=5000).loss
    calls = {
        "one rate after another": lambda: np.concatenate([fit(X, y, [l2], PATH_TOL).loss for l2 in RATES]),
        "sixteen in one batch": lambda: fit(X, y, RATES, PATH_TOL).loss,
    }
    measure(
        calls, case, group=f"sixteen rates, {ROWS:,} images", error=lambda losses: float((losses / best - 1).max()),
        tolerance=LARGEST_GAP, dtype="float64",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", ["LogisticRegressionCV(max_iter=1000)", "folds as masks"])
def test_folds(measure: Measure, images: np.ndarray, labels: np.ndarray, case: str) -> None:
    """Five folds times ten rates; the error is the difference of the mean accuracy on the folds left out."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    from papershell.trainers.logreg import LogisticRegressionCV as Ours

    X, y = images[:FOLD_ROWS] * SCALE, labels[:FOLD_ROWS]
    splits, Cs = list(StratifiedKFold(5).split(X, y)), np.logspace(-3, 1, 10)

    def scores(model: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        return float(np.mean(np.array(model.scores_)))

    calls = {
        "LogisticRegressionCV(max_iter=1000)": lambda: scores(
            LogisticRegressionCV(Cs=Cs, cv=splits, max_iter=1000, use_legacy_attributes=False)
        ),
        "folds as masks": lambda: scores(Ours(Cs=Cs, cv=splits)),
    }
    right = calls["LogisticRegressionCV(max_iter=1000)"]()
    measure(
        calls, case, group=f"5 folds x 10 rates, {FOLD_ROWS:,} images", error=lambda found: abs(found - right),
        tolerance=1e-2, dtype="float64",
    )  # fmt: skip


@pytest.mark.parametrize("case", ["scikit-learn lbfgs", "fit_path"])
def test_digits(measure: Measure, case: str) -> None:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X / 16
    best = fit_path(X, y, [1.0], tol=1e-9).loss[0]

    def ours() -> Coefficients:
        found = fit_path(X, y, [1.0])
        return found.coef[0], found.intercept[0]

    calls = {"scikit-learn lbfgs": lambda: sklearn_coefficients(X, y, 1.0, max_iter=1000), "fit_path": ours}
    with threadpool_limits(1):  # the peer's best: products so small lose on two threads
        measure(
            calls, case, group="one rate, digits", error=gap_to(X, y, 1.0, best), tolerance=1e-3, dtype="float64",
            backend="numpy",
        )  # fmt: skip
