"""The length of a step, found on the kept logits: Newton's method between brackets, for many problems at once.

Along a direction the objective is convex and known from Z and Z_d = X d alone, so that any length, above 1 too,
costs a softmax and no product with X.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FLAT = 0.1  # the slope at the length, as a share of the slope at zero
NEAR = 0.5  # the share of the slope from which a Newton step is taken without another trial,
SHORT = 0.3  # if it changes the length by no larger share
TRIALS = 20
FARTHEST = 10.0  # times the last length that a step may extrapolate


def exact_lengths(
    slopes: Callable[[np.ndarray, np.ndarray], np.ndarray], start: np.ndarray, lengths: np.ndarray,
    flat: float = FLAT,
) -> np.ndarray:  # fmt: skip
    """Return lengths (A,) at which the slopes are about a tenth of those at zero, ``start`` (A,) < 0, or less.

    Parameters
    ----------
    slopes : called as ``slopes(which, t)`` with indices and lengths: first and second derivatives (n, 2).
    start : (A,) slopes at zero.
    lengths : (A,) first trials.
    flat : share of the slope at zero that ends the search if the objective still falls; it fell all the way.
    """
    t, low, high = lengths.copy(), np.zeros_like(lengths), np.full_like(lengths, np.inf)
    which = np.arange(t.size)
    for _ in range(TRIALS):
        if not which.size:
            break
        first, second = slopes(which, t[which]).T
        share = np.abs(first) / np.abs(start[which])  # NaN if the logits overflow
        up = ~(first <= 0.0)
        high[which[up]] = t[which[up]]
        low[which[~up]] = t[which[~up]]
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = t[which] - first / second
        inside = (newton > low[which]) & (newton < np.minimum(high[which], FARTHEST * t[which]))
        close = inside & (share <= NEAR) & (np.abs(newton - t[which]) <= SHORT * t[which])
        halved = np.where(np.isfinite(high[which]), 0.5 * (low[which] + high[which]), 4.0 * t[which])
        done = share <= np.where(first <= 0.0, flat, FLAT)
        t[which] = np.where(done, t[which], np.where(inside, newton, halved))
        which = which[~(done | close)]
    return t
