"""The proof of an answer: a lower bound of the optimum by duality, evaluated in float64.

The dual of ``sum_i w_i loss(z_i, y_i) + l2 / 2 ||W||^2`` asks for one probability vector q_i a sample and gives

    optimum >= sum_i w_i H(q_i) - ||X' R||^2 / (2 l2),    R_i = w_i (q_i - onehot(y_i)),   H the entropy,

if the columns of R sum to zero, which a free intercept demands (Yu, Huang, Lin, "Dual coordinate descent methods
for logistic regression and maximum entropy models", 2011, section 4). At the probabilities p of a point (W, b) whose
intercepts have no gradient the difference to the loss is ||gradient||^2 / (2 l2): what strong convexity says.

So the intercepts first go to their optimum by Newton steps, on the logits alone. A rest s = sum_i R_i that rounding
leaves is made up by mixing: q = (1 - t) p + t c with one constant vector c, and t as small as c >= 0 allows. The
entropy is concave, so that the bound holds with (1 - t) H(p) + t H(c), and the changes of X' R are bounded by
sum_i w_i ||x_i||.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NEWTON_STEPS = 25
EXACT_SUM = 1e-13  # of a class's weight: the sum of its residuals is then rounding


@dataclass(frozen=True)
class Balanced:
    """A point whose intercepts are at their optimum.

    Attributes
    ----------
    shift : (K,) added to the intercepts, or to one logit.
    loss : the summed loss of the shifted logits.
    residual : (N, K) w (p - onehot), or (N, 1) of one logit.
    """

    shift: np.ndarray
    loss: float
    residual: np.ndarray


def softmax_loss(Z: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the summed loss, p (N, K) and residuals of logits (N, K), or of one logit (N, 1) with y 0 or 1."""
    if Z.shape[1] == 1:
        e = np.exp(-np.abs(Z))
        p = np.where(Z >= 0, 1.0, e) / (1.0 + e)
        losses = (np.maximum(Z, 0.0) + np.log1p(e))[:, 0] - Z[:, 0] * y
        return float(weight @ losses), p, weight[:, None] * (p - y[:, None])
    rows = np.arange(len(y))
    shifted = Z - Z.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    residual = weight[:, None] * p
    residual[rows, y] -= weight
    return float(weight @ (np.log(total[:, 0]) - shifted[rows, y])), p, residual


def balance(Z: np.ndarray, y: np.ndarray, weight: np.ndarray, free: bool) -> Balanced:
    """Bring the residuals' sums of logits ``Z`` (N, K) to zero by Newton steps on K intercepts, if ``free``."""
    shift = np.zeros(Z.shape[1])
    loss, p, residual = softmax_loss(Z, y, weight)
    for _ in range(NEWTON_STEPS if free else 0):
        sums = residual.sum(axis=0)
        if np.abs(sums).max() <= EXACT_SUM * weight.sum():
            break
        weighted = p * weight[:, None]
        curvature = np.diag(weighted.sum(axis=0)) - weighted.T @ p
        if len(shift) > 1:
            curvature += np.trace(curvature) / len(shift) ** 2  # the softmax does not see a common shift
        step = np.linalg.lstsq(curvature, sums, rcond=None)[0]
        found = softmax_loss(Z + shift - step, y, weight)
        if not found[0] <= loss:
            break
        shift, (loss, p, residual) = shift - step, found
    return Balanced(shift, loss, residual)


def distance(
    balanced: Balanced, y: np.ndarray, weight: np.ndarray, W: np.ndarray, bias: np.ndarray,
    gradient: np.ndarray, ridge: np.ndarray, row_norms: float, free: bool,
) -> float:  # fmt: skip
    """Return a bound of (objective - optimum) at a balanced point.

    Parameters
    ----------
    balanced, y, weight : the point's loss and residuals, labels (N,) and weights (N,).
    W, bias : (K, P) and (K,), the bias with the shift.
    gradient : (K, P) of the objective: X' R + ridge * W.
    ridge : (P,) penalties.
    row_norms : sum_i w_i ||x_i||.
    free : whether there are intercepts without penalty.
    """
    if not (ridge > 0).all():
        return math.inf
    norm = math.sqrt((gradient**2 / ridge).sum())
    if not free:
        return 0.5 * norm**2
    total, sums = float(weight.sum()), balanced.residual.sum(axis=0)
    counts = np.bincount(y, weight, minlength=max(2, len(sums)))
    whole = np.array([-sums[0], sums[0]]) if len(sums) == 1 else sums
    excess = np.maximum(whole, 0.0)
    if (counts <= 0.0).any():
        return math.inf
    t = float((excess / (counts + excess)).max())
    if t == 0.0:
        return 0.5 * norm**2
    constant = np.clip((t * counts - (1.0 - t) * whole) / (t * total), 0.0, None)
    entropy = -float((constant * np.log(np.maximum(constant, 1e-300))).sum())
    change = math.sqrt(2.0) * row_norms
    rest = balanced.loss - total * entropy + change * float(np.linalg.norm(W))
    return (
        0.5 * (norm + t * change / math.sqrt(ridge.min())) ** 2
        + abs(float(sums @ (bias - bias.mean() if len(bias) > 1 else bias)))
        + t * max(rest, 0.0)
    )


def lower_bound(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray, theta: np.ndarray, ridge: np.ndarray, *,
    loss: str, scale: float, fit_intercept: bool, block_rows: int = 4096,
) -> float:  # fmt: skip
    """Return a number that the optimum of one problem is not below, computed in float64 from all rows.

    Parameters
    ----------
    X, y, weight : (N, P) raw features, labels (N,) and weights (N,).
    theta : (K, P + 1), the last column the intercept, absent without one.
    ridge : (P + 1,) penalties; zero of a free intercept.
    loss, scale, fit_intercept : as `fit_path` takes them.
    """
    P = X.shape[1]
    used = np.flatnonzero(weight)
    y, weight = y[used], weight[used]
    blocks = [used[first : first + block_rows] for first in range(0, used.size, block_rows)]
    W, bias = theta[:, :P], theta[:, P] if fit_intercept else np.zeros(len(theta))
    features = np.concatenate([(X[b] * np.float64(scale)) @ W.T for b in blocks]) + bias
    free = fit_intercept and ridge[-1] == 0
    split = (
        [(slice(None), y)]
        if loss == "multinomial"
        else [(slice(k, k + 1), (y == k).astype(np.int64)) for k in range(len(W))]
    )
    points = [balance(features[:, columns], labels, weight, free) for columns, labels in split]
    R = np.concatenate([point.residual for point in points], axis=1)
    gradient, row_norms, start = np.zeros(W.shape), 0.0, 0
    for block in blocks:
        rows, stop = X[block] * np.float64(scale), start + len(block)
        gradient += R[start:stop].T @ rows
        row_norms += float(weight[start:stop] @ np.sqrt((rows**2).sum(axis=1)))
        start = stop
    gradient += ridge[:P] * W
    lower = 0.5 * float((ridge[:P] * W**2).sum())
    for (columns, labels), point in zip(split, points, strict=True):
        part = gradient[columns]
        gap = distance(
            point, labels, weight, W[columns], bias[columns] + point.shift, part, ridge[:P], row_norms, free
        )
        if fit_intercept and not free:
            edge = point.residual.sum(axis=0) + ridge[-1] * bias[columns]
            gap += 0.5 * float((edge**2).sum() / ridge[-1]) if ridge[-1] > 0 else math.inf
            lower += 0.5 * ridge[-1] * float((bias[columns] ** 2).sum())
        lower += point.loss - gap
    return lower
