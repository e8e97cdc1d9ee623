"""The losses, written once against an array namespace.

One contract holds in this whole folder. Shapes: N samples, P features, K classes, R rates,
F folds, M = F x R problems solved side by side, B blocks of a metric. Problem m minimizes

    f_m(W, b) = sum_i w_mi * loss(z_i, y_i) + l2_m / 2 * ||W||^2,    z_i = W x_i + b  (K,)

which is scikit-learn's objective with l2 = 1 / C; the intercept b is unpenalized unless asked.
The solver works on f_m divided by the sum of the problem's weights, so that its ``tol`` means
what it means in scikit-learn: max |gradient| of the mean objective.

    multinomial    loss = logsumexp(z) - z_y                          p = softmax(z)
    ovr            loss = sum_k log(1 + exp(z_k)) - [y = k] z_k       p_k = sigmoid(z_k)

Either way the residual d loss / d z is p - onehot(y), and p (1 - p) is the diagonal of the
Hessian d2 loss / d z2.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

Array = Any  # an array of the namespace xp: NumPy, CuPy or PyTorch

LOSSES = ("multinomial", "ovr")


def probabilities(xp: ModuleType, Z: Array, loss: str) -> Array:
    """Return p of the logits ``Z`` (..., K): softmax over the last axis, or sigmoid."""
    if loss == "ovr":
        e = xp.exp(-xp.abs(Z))
        return xp.where(Z >= 0, 1 / (1 + e), e / (1 + e))
    e = xp.exp(Z - xp.max(Z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def sample_losses(xp: ModuleType, Z: Array, onehot: Array, loss: str) -> Array:
    """Return the losses (n, M) of logits ``Z`` (n, M, K) and labels ``onehot`` (n, 1, K)."""
    target = xp.sum(Z * onehot, axis=-1)
    if loss == "ovr":
        return xp.sum(xp.where(Z > 0, Z, 0 * Z) + xp.log1p(xp.exp(-xp.abs(Z))), axis=-1) - target
    top = xp.max(Z, axis=-1)
    return xp.log(xp.sum(xp.exp(Z - top[..., None]), axis=-1)) + top - target


def value_and_residual(
    xp: ModuleType, Z: Array, onehot: Array, weight: Array, loss: str
) -> tuple[Array, Array]:
    """Return the summed loss (M,) and the residual (n, M, K) of a block of rows.

    Parameters
    ----------
    Z : (n, M, K) logits.
    onehot : (n, 1, K) of the labels.
    weight : (n, M) sample weights, zero outside a problem's fold.
    loss : ``"multinomial"`` or ``"ovr"``.
    """
    value = xp.sum(weight * sample_losses(xp, Z, onehot, loss), axis=0)
    return value, (probabilities(xp, Z, loss) - onehot) * weight[..., None]
