"""Two classes on many rows of few features: the bound from the curvature, and the answers that it proves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from papershell.kernels import Status, fit_path
from papershell.kernels.logreg.certificate import distance_by_curvature

N = 200_000


def objective(A, y, weight, ridge):
    """Return value, gradient and Hessian of a weighted logistic regression as functions of theta."""

    def value(v):
        z = A @ v
        return weight @ (np.logaddexp(0.0, z) - y * z) + 0.5 * (ridge * v**2).sum()

    def gradient(v):
        return A.T @ (weight * (expit(A @ v) - y)) + ridge * v

    def hessian(v):
        p = expit(A @ v)
        return (A.T * (weight * p * (1 - p))) @ A + np.diag(ridge)

    return value, gradient, hessian


def optimum(value, gradient, hessian, size) -> np.ndarray:
    """Return the point of least value by SciPy's trust-region solver."""
    return minimize(
        value, np.zeros(size), jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-9}
    ).x


def test_the_bound_from_the_curvature_is_never_below_the_truth():
    """Random problems at points from far off to near the optimum, with the Hessian of all rows and of some."""
    found, near = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, P = int(rng.integers(20, 200)), int(rng.integers(1, 8))
        A = np.column_stack([rng.standard_normal((n, P)) * 10.0 ** rng.uniform(-1, 1, P), np.ones(n)])
        y = (rng.random(n) < expit(A @ rng.standard_normal(P + 1))).astype(float)
        y[:2] = 0.0, 1.0
        weight, ridge = rng.uniform(0, 1, n), np.append(np.full(P, 10.0 ** rng.uniform(-2, 2)), 0.0)
        value, gradient, hessian = objective(A, y, weight, ridge)
        best = optimum(value, gradient, hessian, P + 1)
        least, row_norm = value(best), np.linalg.norm(A, axis=1).max()
        part = slice(0, n // 2)
        some = objective(A[part], y[part], weight[part], ridge)[2]
        for size in (1.0, 0.1, 0.01, 1e-3):
            point = best + size * rng.standard_normal(P + 1) / np.sqrt(hessian(best).diagonal())
            for curvature in (hessian, some):
                bound = distance_by_curvature(gradient(point), curvature(point), row_norm, 0.0)
                assert value(point) - least <= bound + 1e-12 * least, (seed, size)
                found.append(bound)
                if size == 1e-3 and curvature is hessian:
                    near.append(bound / (value(point) - least))
    assert np.isfinite(found).mean() >= 0.5  # infinity everywhere would pass the rest
    assert np.median(near) <= 1.1


@pytest.fixture(autouse=True)
def numba_is_loaded():
    """Let ``auto`` count no seconds for loading it."""
    fit_path(np.eye(4), np.arange(4) % 2, 1.0, backend="numba")


def tall(P=6, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X, w = rng.standard_normal((N, P)).astype(dtype), rng.standard_normal(P)
    return X, (rng.random(N) < expit(X @ w / 2 - 1)).astype(np.int64)


@pytest.mark.parametrize(
    "kind", ["float64", "float32", "scales", "order", "weights", "no intercept", "penalized"]
)
def test_answers_on_many_rows_are_proven_and_the_proof_is_true(kind):
    X, y = tall(dtype=np.float32 if kind == "float32" else np.float64, seed=len(kind))
    options = {"fit_intercept": kind != "no intercept", "penalize_intercept": kind == "penalized"}
    if kind == "scales":
        X = X * 10.0 ** np.arange(-3.0, 3.0) + np.arange(6.0)
    if kind == "order":
        order = np.lexsort((X[:, 0], y))
        X, y = X[order], y[order]
    weight = np.random.default_rng(1).uniform(0, 2, N) if kind == "weights" else np.ones(N)
    A = np.column_stack([X, np.ones(N)]) if options["fit_intercept"] else X
    for l2, gap in ((1.0, 1e-3), (300.0, 1e-7)):
        found = fit_path(X, y, l2, loss="ovr", gap=gap, sample_weight=weight, backend="auto", **options)
        ridge = np.full(A.shape[1], l2)
        ridge[6:] *= options["penalize_intercept"]
        value, gradient, hessian = objective(A.astype(float), y, weight, ridge)
        theta = np.append(found.coef[0, 1], found.intercept[0, 1])[: A.shape[1]]
        best = theta
        for _ in range(3):
            best = best - np.linalg.solve(hessian(best), gradient(best))
        assert np.abs(gradient(best)).max() <= 1e-9 * N * np.abs(X).max()
        assert found.status[0] is Status.PROVEN
        assert found.gap[0] <= gap
        assert value(theta) / value(best) - 1 <= found.gap[0] + 1e-13
        assert 0.5 * found.loss[0] == pytest.approx(value(theta), rel=1e-12)


def test_many_rows_take_few_passes_and_batches_agree():
    X, y = tall()
    passes = []
    alone = fit_path(X, y, 1.0, gap=1e-6, callback=lambda number, *_: passes.append(number))
    assert passes[-1] <= 4
    folds = np.arange(N) % 2 == np.arange(2)[:, None]
    batch = fit_path(X, y, [1.0, 10.0], gap=1e-6, folds=np.stack([*folds, np.ones(N, bool)]))
    assert (batch.gap <= 1e-6).all()
    assert batch.loss[2, 0] == pytest.approx(alone.loss[0], rel=2e-6)


def test_separable_rows_and_one_step_end_as_they_should():
    X, _ = tall()
    y = (X[:, 0] > 0.3).astype(np.int64)
    found = fit_path(X, y, [1e-3, 10.0], gap=1e-4)
    assert all(status is Status.PROVEN for status in found.status)
    stopped = fit_path(X, y, 1e-3, gap=1e-12, max_iter=1)
    assert stopped.status[0] is Status.MAX_ITER
    assert stopped.n_iter[0] == 1
    assert stopped.loss[0] <= found.loss[0] * (1 + stopped.gap[0])
