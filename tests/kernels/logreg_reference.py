"""What tests of `kernels.logreg` compare with: the objective a second time, data, the table of tolerances."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax

from papershell.kernels.backends import is_available

ON_HOST = [name for name in ("numpy", "numba", "torch") if is_available(name)]

# The smallest relative difference that the last pass of a back end sees: float64, or 47 bits in fixed point.
PASS_UNIT = {"numpy": 2.0**-52, "numba": 2.0**-52, "torch": 2.0**-47, "cupy": 2.0**-52}
ITERATION_UNIT = 2.0**-26  # two runs of one iteration in float64: half of the digits survive its divisions
TIGHT = 1e-9  # a stopping gradient that leaves room above those units at the sizes of these tests


def value_and_gradient(
    X,
    y,
    coef,
    intercept,
    l2,
    *,
    loss="multinomial",
    weight=None,
    fit_intercept=True,
    penalize_intercept=False,
) -> tuple[float, float]:
    """Return the summed objective and max |gradient| of the mean objective; X (n, P), coef (K, P)."""
    X = np.asarray(X, np.float64)
    weight = np.ones(len(X)) if weight is None else np.asarray(weight, np.float64)
    scores, Y = X @ coef.T + intercept, np.eye(len(coef))[y]
    if loss == "ovr":
        losses = -(log_expit(scores) * Y + log_expit(-scores) * (1 - Y)).sum(axis=1)
        residual = expit(scores) - Y
    else:
        losses = -(log_softmax(scores, axis=1) * Y).sum(axis=1)
        residual = softmax(scores, axis=1) - Y
    residual *= weight[:, None]
    value = weight @ losses + l2 / 2 * ((coef**2).sum() + penalize_intercept * (intercept**2).sum())
    gradient = [residual.T @ X + l2 * coef]
    if fit_intercept:
        gradient.append((residual.sum(axis=0) + penalize_intercept * l2 * intercept)[:, None])
    return value, np.abs(np.hstack(gradient)).max() / weight.sum()


def rounding(X, coef, intercept, backend: str) -> float:
    """Return a bound on what rounding does to a gradient: to P products a logit, then to the sum over n rows."""
    n, P = X.shape
    X = np.abs(np.asarray(X, np.float64))
    logit = (X @ np.abs(coef).T + np.abs(intercept)).max()
    return PASS_UNIT[backend] * (P * logit + n) * max(1.0, X.max())


def check(solution, X, y, l2, *, tol, folds=None, weight=None, **objective) -> None:
    """Assert for every rate (and fold) that loss, gradient and status are what the reference says; X is scaled."""
    masks = np.ones((1, len(y))) if folds is None else np.asarray(folds, np.float64)
    masks = masks if weight is None else masks * weight
    fields = (solution.coef, solution.intercept, solution.loss, solution.grad_norm, solution.status)
    fields = [field if folds is not None else field[None] for field in fields]
    for f, mask in enumerate(masks):
        for r, rate in enumerate(np.atleast_1d(l2)):
            coef, intercept, loss, grad_norm, status = (field[f, r] for field in fields)
            value, norm = value_and_gradient(X, y, coef, intercept, rate, weight=mask, **objective)
            error = rounding(X, coef, intercept, solution.backend)
            assert np.isfinite(norm) and abs(grad_norm - norm) <= error, (f, rate, norm, grad_norm)
            size = np.abs(np.append(coef, intercept)).sum()
            assert abs(loss - value) <= error * mask.sum() * (1 + size) + PASS_UNIT[solution.backend] * value
            assert status.reached == (grad_norm <= tol), (f, rate, status, norm)


def assert_same_optimum(first, second, l2, total, tol) -> None:
    """Assert that two (coef, intercept) lie as near as their gradients, both at most ``tol``, demand.

    The mean objective f is convex, and strongly so with l2 / total in coef: by the monotonicity of its gradient
    l2 / total * |d coef|_2^2 <= (f'(x1) - f'(x2)) . (x1 - x2) <= 2 tol |x1 - x2|_1.
    """
    coef, intercept = (np.asarray(a) - np.asarray(b) for a, b in zip(first, second, strict=True))
    intercept = intercept - intercept.mean()  # a shift of all intercepts leaves the softmax as it is
    distance = np.abs(coef).sum() + np.abs(intercept).sum()
    assert l2 / total * (coef**2).sum() <= 2 * tol * distance, (np.abs(coef).max(), distance)


def blobs(n=200, P=10, K=3, *, seed=0, spread=1.5) -> tuple[np.ndarray, np.ndarray]:
    """Return overlapping Gaussian classes (n, P) and labels (n,), every class present."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % K
    return rng.normal(size=(K, P))[y] + spread * rng.normal(size=(n, P)), y


def in_bytes(X: np.ndarray) -> np.ndarray:
    """Return X as uint8 between its least and its largest value."""
    span = np.ptp(X) or 1.0
    return np.rint((X - X.min()) / span * 255).astype(np.uint8)
