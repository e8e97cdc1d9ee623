"""The proof of an answer: a bound of its distance to the optimum by duality, evaluated in float64.

The dual of ``sum_i w_i loss(z_i, y_i) + l2 / 2 ||W||^2`` asks for one probability vector q_i a sample and gives

    optimum >= sum_i w_i H(q_i) - ||X' R||^2 / (2 l2),    R_i = w_i (q_i - onehot(y_i)),   H the entropy,

if the columns of R sum to zero, which a free intercept demands (Yu, Huang, Lin, "Dual coordinate descent methods
for logistic regression and maximum entropy models", 2011, section 4). At the probabilities p of a point (W, b) whose
intercepts have no gradient the difference to the loss is ||gradient||^2 / (2 l2): what strong convexity says.

So the intercepts first go to their optimum by Newton steps, on the logits alone. A rest s = sum_i R_i that rounding
leaves is made up by mixing: q = (1 - t) p + t c with one constant vector c, and t as small as c >= 0 allows. The
entropy is concave, so that the bound holds with (1 - t) H(p) + t H(c), and the changes of X' R are bounded by
sum_i w_i ||x_i||.

Where a Hessian is known, `distance_by_curvature` says more: strong convexity knows no curvature but the penalty's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

NEWTON_STEPS = 12
CURVATURE_ROUNDING = 1e-11  # of a Hessian of unit diagonal, from sums over blocks of rows
SMALL_SUM = 1e-14  # of a fold's weight: the sum of a class's residuals is then rounding


def balance(
    moments: Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]], K: int, enough: float
) -> np.ndarray:
    """Return the shift (K,) of the intercepts after which they have no gradient.

    Parameters
    ----------
    moments : takes a shift to the summed loss, the residuals' sums (K,) and their derivatives (K, K) by the shift.
    K : columns.
    enough : a sum of residuals that needs no further step.
    """
    shift = np.zeros(K)
    loss, sums, curvature = moments(shift)
    for _ in range(NEWTON_STEPS):
        if not np.abs(sums).max() > enough:
            break
        if K > 1:
            curvature = curvature + np.trace(curvature) / K**2  # the softmax does not see a common shift
        if not (np.isfinite(curvature).all() and np.trace(curvature) > 0.0):
            break
        trial = shift - np.linalg.solve(curvature + 1e-12 * np.trace(curvature) * np.eye(K), sums)
        found = moments(trial)
        if not (found[0] <= loss + 1e-14 * abs(loss) and np.abs(found[1]).max() < np.abs(sums).max()):
            break  # rounding
        shift, (loss, sums, curvature) = trial, found
    return shift


def harmless_sum(
    value: float, gap: float, theta: np.ndarray, ridge: np.ndarray, counts: np.ndarray, row_norms: float
) -> float:
    """Return the largest sum of a class's residuals that adds little to `distance` beside ``gap * value``.

    Each of the three terms that a sum adds there may be a hundredth of that; the arguments are those of `distance`.
    """
    rounding, room = SMALL_SUM * float(counts.sum()), 0.01 * gap * value
    if not 0.0 < room < math.inf:
        return rounding
    P, change = len(ridge) - 1, math.sqrt(2.0) * row_norms
    moved = 0.1 * math.sqrt(2.0 * room * float(ridge[:P].min())) / max(change, 1e-300)
    rest = value + float(counts.sum()) * math.log(len(counts)) + change * float(np.linalg.norm(theta[:, :P]))
    mixed = min(moved, room / rest) * float(counts.min())
    return max(rounding, min(mixed, room / (1.0 + float(np.abs(theta[:, P]).sum()))))


def distance(
    loss: float, theta: np.ndarray, residual_gradient: np.ndarray, ridge: np.ndarray, counts: np.ndarray,
    row_norms: float, fit_intercept: bool,
) -> float:  # fmt: skip
    """Return a bound of (objective - optimum), infinite if there is none.

    Parameters
    ----------
    loss : summed loss without the penalty.
    theta, residual_gradient : (K, P + 1) the point and X' R, the last column the sums of R; absent without intercepts.
    ridge : (P + 1,) penalties; zero of a free intercept.
    counts : (K,) weights of the classes, or (2,) of those a single column tells apart.
    row_norms : a bound of sum_i w_i ||x_i||.
    fit_intercept : whether there is the last column.
    """
    free = fit_intercept and ridge[-1] == 0.0
    P = len(ridge) - free
    W, penalty = theta[:, :P], ridge[:P]
    if not (penalty > 0.0).all() or (free and not (counts > 0.0).all()):
        return math.inf
    with np.errstate(over="ignore"):
        norm = math.sqrt((((residual_gradient[:, :P] + penalty * W) ** 2) / penalty).sum())
    if not free:
        return 0.5 * norm**2
    sums = residual_gradient[:, -1]
    whole = np.array([-sums[0], sums[0]]) if len(sums) == 1 else sums - sums.mean()
    excess = np.maximum(whole, 0.0)
    t = float((excess / (counts + excess)).max())
    if not t > 0.0:
        return 0.5 * norm**2
    total = float(counts.sum())
    constant = np.clip((t * counts - (1.0 - t) * whole) / (t * total), 0.0, None)
    entropy = -float((constant * np.log(np.maximum(constant, 1e-300))).sum())
    change = math.sqrt(2.0) * row_norms
    rest = loss - total * entropy + change * float(np.linalg.norm(W))
    bias = theta[:, -1] - theta[:, -1].mean() if len(sums) > 1 else theta[:, -1]
    return (
        0.5 * (norm + t * change / math.sqrt(penalty.min())) ** 2
        + abs(float(sums @ bias))
        + t * max(rest, 0.0)
    )


def distance_by_curvature(
    gradient: np.ndarray, curvature: np.ndarray, row_norm: float, rounding: float
) -> float:
    """Return a bound of (objective - optimum) for two classes from the gradient and the Hessian at a point.

    The third derivative of the logistic loss is no larger than the second, so that the curvature along v, whose
    logits change by at most c = max_i |x_i' v|, is at t v at least exp(-c t) v' H v (Bach, "Self-concordant analysis
    for logistic regression", 2010, proposition 1). With nu = ||gradient|| and rho = max_i ||x_i||, both in the norm
    of the inverse of H, the objective falls by at most (s + (1 - s) log(1 - s)) / rho^2, s = nu rho < 1, which is at
    most

        nu^2 (1/2 + s / (6 (1 - s))).

    Parameters
    ----------
    gradient : (n,) of the objective.
    curvature : (n, n) positive definite; no more than the Hessian, for example that of some rows.
    row_norm : a bound of ||x_i||, with the one of the intercept.
    rounding : a bound of the error of the gradient's norm.
    """
    diagonal = curvature.diagonal()
    if not (np.isfinite(curvature).all() and np.isfinite(gradient).all() and (diagonal > 0.0).all()):
        return math.inf
    unit = 1.0 / np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(curvature * unit * unit[:, None])
    values = values - CURVATURE_ROUNDING * len(values)
    if not values[0] > 0.0:
        return math.inf
    root = vectors.T * unit / np.sqrt(values)[:, None]  # root' root is the inverse
    widest = float(np.linalg.norm(root, 2))
    nu = float(np.linalg.norm(root @ gradient)) + widest * rounding
    s = nu * widest * row_norm
    return nu**2 * (0.5 + s / (6.0 * (1.0 - s))) if s < 1.0 else math.inf
