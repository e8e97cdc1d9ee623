"""The direction of limited-memory BFGS around a preconditioner.

Nocedal and Wright, "Numerical optimization" (2006), algorithm 7.4; the first matrix is the preconditioner, scaled
so that it fits the newest pair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from papershell.kernels.logreg.losses import Array


def dot(a: Array, b: Array) -> float:
    """Return the inner product of two arrays of one shape."""
    return float(a.reshape(-1) @ b.reshape(-1))


class History:
    """The last pairs (s, y): steps, and the changes of the gradient over them."""

    def __init__(self, most: int):
        self.most = most
        self.pairs: deque[tuple[Array, Array, float]] = deque(maxlen=most)

    def append(self, s: Array, y: Array) -> None:
        """Add a pair, if it has positive curvature."""
        product = dot(s, y)
        if product > 0.0:
            self.pairs.append((s, y, 1.0 / product))

    def clear(self) -> None:
        """Forget all pairs."""
        self.pairs.clear()

    def descent(self, gradient: Array, precondition: Callable[[list[Array]], list[Array]]) -> Array:
        """Return the direction (K, P + 1), downhill of ``gradient`` if the preconditioner is positive definite."""
        q, weights = gradient, []
        for s, y, rho in reversed(self.pairs):
            weights.append(rho * dot(s, q))
            q = q - weights[-1] * y
        if not self.pairs:
            return -precondition([q])[0]
        _, y, rho = self.pairs[-1]
        z, image = precondition([q, y])
        measured = rho * dot(y, image)
        z = z / measured if measured > 0.0 else z
        for s, y, rho in self.pairs:
            z = z + (weights.pop() - rho * dot(y, z)) * s
        return -z
