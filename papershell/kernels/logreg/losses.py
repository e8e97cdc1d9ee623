"""The losses of one problem, written once against an array namespace.

One contract holds in this whole folder. Shapes: N samples, P features, K columns, R rates, F folds, A problems
solved side by side. A problem minimizes

    f(W, b) = sum_i w_i loss(z_i, y_i) + 1/2 sum_j ridge_j ||W_j||^2,      z_i = W x_i + b    (K,)

    softmax, K > 1    loss = logsumexp(z) - z_y                  p = softmax(z)
    sigmoid, K = 1    loss = log(1 + exp(z)) - y z, y 0 or 1     p = sigmoid(z)

which is scikit-learn's objective with l2 = 1 / C. Two classes are one column: with z = z_1 - z_0 and opposite weights,
||w_0||^2 + ||w_1||^2 = ||w_1 - w_0||^2 / 2. One-vs-rest is K problems of one column each.

The residual d loss / d z is w (p - onehot(y)), the Hessian d2 loss / d z2 is w (diag(p) - p p').
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

Array = Any  # an array of the namespace xp: NumPy, CuPy or PyTorch

LOSSES = ("multinomial", "ovr")


def probabilities(xp: ModuleType, Z: Array) -> Array:
    """Return p of the logits ``Z`` (n, K): softmax of the rows, or the sigmoid of a single column."""
    if Z.shape[1] == 1:
        e = xp.exp(-xp.abs(Z))
        return xp.where(Z >= 0, 1 / (1 + e), e / (1 + e))
    e = xp.exp(Z - xp.max(Z, axis=1, keepdims=True))
    return e / xp.sum(e, axis=1, keepdims=True)


def class_scores(xp: ModuleType, Z: Array, loss: str) -> Array:
    """Return numbers whose softmax is the classes' probabilities: logits ``Z``, or for one-vs-rest log(sigmoid)."""
    return Z if loss == "multinomial" else -xp.logaddexp(xp.zeros_like(Z), -Z)


def onehot(xp: ModuleType, y: Array, Z: Array) -> Array:
    """Return the labels ``y`` (n,) as zeros and ones of the shape and type of ``Z`` (n, K)."""
    if Z.shape[1] == 1:
        return xp.astype(y, Z.dtype)[:, None]
    classes = xp.arange(Z.shape[1]) if xp.__name__ == "numpy" else xp.arange(Z.shape[1], device=Z.device)
    return xp.astype(y[:, None] == classes, Z.dtype)


def loss_and_residual(xp: ModuleType, Z: Array, y: Array, weight: Array) -> tuple[Array, Array]:
    """Return the summed loss and the residual (n, K) of logits ``Z`` (n, K) float64, labels and weights (n,)."""
    Y = onehot(xp, y, Z)
    target = xp.sum(Z * Y, axis=1)
    if Z.shape[1] == 1:
        losses = (xp.where(Z > 0, Z, 0 * Z) + xp.log1p(xp.exp(-xp.abs(Z))))[:, 0] - target
        return weight @ losses, (probabilities(xp, Z) - Y) * weight[:, None]
    top = xp.max(Z, axis=1, keepdims=True)
    e = xp.exp(Z - top)
    total = xp.sum(e, axis=1, keepdims=True)
    losses = xp.log(total[:, 0]) + top[:, 0] - target
    return weight @ losses, (e / total - Y) * weight[:, None]


def slope_and_curvature(xp: ModuleType, Z: Array, D: Array, y: Array, weight: Array) -> tuple[Array, Array]:
    """Return the first and second derivative of the summed loss at logits ``Z`` (n, K) along ``D`` (n, K)."""
    p = probabilities(xp, Z)
    first = xp.sum((p - onehot(xp, y, Z)) * D, axis=1)
    mean = xp.sum(p * D, axis=1)
    squares = xp.sum(p * D * D, axis=1) - mean * mean
    return weight @ first, weight @ squares
