"""Newton's method with the whole Hessian, on data so small that calls of NumPy take the time.

The Hessian of the softmax is sum_k (e_k e_k') (x) X' diag(w p_k) X - T' diag(w) T with rows T_i = p_i (x) x_i.
A problem that this does not bring to a proof is left to `papershell.kernels.logreg.solver`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from papershell.kernels.logreg.certificate import distance
from papershell.kernels.logreg.iteration import Result, Status
from papershell.kernels.logreg.losses import loss_and_residual
from papershell.kernels.logreg.problem import Identity, Problem, Samples

MOST_PRODUCTS = 20_000_000  # of one Hessian
MOST_UNKNOWNS = 200
MOST_FEATURES, FEWEST_ROWS = 65, 200_000  # of two classes on many rows: 100,000 x 60 take no less time
STEPS, HALVINGS = 60, 30


def minimizer(N: int, width: int, columns: int, backend: str) -> Callable[..., Result | None] | None:
    """Return what minimizes a problem with its whole Hessian, as `minimize` does, or None if that does not pay.

    Parameters
    ----------
    N, width, columns : samples, features and intercept, columns of logits.
    backend : the back end's name.
    """
    if backend == "numba" and is_tall(N, width, columns):
        from papershell.kernels.logreg import on_tall_rows

        return on_tall_rows.minimize
    return minimize if is_small(N, width * columns) else None


def is_small(N: int, unknowns: int) -> bool:
    """Return whether a whole Hessian takes less than what a pass of the general solver does beside its products."""
    return unknowns <= MOST_UNKNOWNS and N * unknowns**2 <= MOST_PRODUCTS


def is_tall(N: int, width: int, columns: int) -> bool:
    """Return whether a Hessian of two classes takes less than the passes that it saves."""
    return width <= MOST_FEATURES and N >= FEWEST_ROWS and columns == 1


def minimize(
    samples: Samples, problem: Problem, theta: np.ndarray, variables: Identity, largest_row: float, max_iter: int,
    trail: list[tuple[np.ndarray, float]],
) -> Result | None:  # fmt: skip
    """Return the optimum of ``problem`` with its proof, or None if there is none after a few steps.

    Parameters
    ----------
    samples : float or bytes, in the coordinates ``variables``.
    theta : (K, P + 1) float64 start.
    largest_row : a bound of ||x_i||.
    max_iter : steps that the problem may take.
    trail : gets, before each step, the point and its largest gradient.
    """
    if not problem.gap < np.inf:
        return None
    X, P = samples.rows(slice(None)) * np.float64(samples.scale), samples.X.shape[1]
    if samples.fit_intercept:
        X = np.column_stack([X, np.ones(len(X))])
    y, w, ridge = problem.labels(samples.y), samples.weight[problem.fold], problem.ridge
    own = y if problem.columns > 1 else np.zeros_like(y)
    hot = np.zeros((len(y), problem.columns))
    hot[np.arange(len(y)), own] = w if problem.columns > 1 else w * y

    def at(theta: np.ndarray) -> tuple[float, float, np.ndarray]:
        loss, R = loss_and_residual(np, X @ theta.T, y, w)
        return float(loss + 0.5 * (ridge * theta * theta).sum()), float(loss), R

    value, loss, R = at(theta)
    for step in range(min(STEPS, max_iter) + 1):
        residual_gradient = R.T @ X
        gradient = residual_gradient + ridge * theta
        norm = float(np.abs(variables.gradient(gradient)).max()) / problem.total
        if step == max_iter or 0.5 * (gradient[:, :P] ** 2 / ridge[:P]).sum() <= problem.gap * value:
            bound = distance(
                loss, theta, residual_gradient, ridge, problem.counts, largest_row * problem.total,
                samples.fit_intercept,
            )  # fmt: skip
            proven = norm <= problem.tol and bound <= problem.gap * value
            if proven or step == max_iter:
                ending = Status.PROVEN if proven else Status.MAX_ITER
                return Result(theta, value, norm, step, ending, bound / value if value else 0.0)
        trail.append((theta, norm))
        H = hessian(X, R + hot, w, ridge, problem.free_intercept(samples))
        direction = -np.linalg.solve(H, gradient.reshape(-1)).reshape(theta.shape)
        slope, length = float((direction * gradient).sum()), 1.0
        for _ in range(HALVINGS):
            found = at(theta + length * direction)
            if found[0] <= value + 1e-4 * length * slope + 1e-14 * value:
                break
            length *= 0.5
        else:
            return None
        theta, (value, loss, R) = theta + length * direction, found
    return None


def hessian(X: np.ndarray, p: np.ndarray, w: np.ndarray, ridge: np.ndarray, free: bool) -> np.ndarray:
    """Return the Hessian (n, n), n = K (P + 1), from weighted probabilities ``p`` (N, K)."""
    root = np.sqrt(w)
    ratio = p / np.where(root > 0.0, root, 1.0)[:, None]
    if p.shape[1] == 1:
        return (X.T * (p[:, 0] - ratio[:, 0] ** 2)) @ X + np.diag(ridge)
    K, width = p.shape[1], X.shape[1]
    T = (ratio[:, :, None] * X[:, None, :]).reshape(len(X), -1)
    H = -(T.T @ T)
    blocks = H.reshape(K, width, K, width)
    each = (X.T * p.T[:, None, :]) @ X
    diagonal = np.arange(K)
    blocks[diagonal, :, diagonal] += each + np.diag(ridge)
    if free:  # the softmax does not see a common shift of the intercepts
        blocks[:, -1, :, -1] += each[:, -1, -1].sum() / K**2
    return H
