"""How many times as fast, and how sure: the ratio of two interleaved series of seconds.

Pairs of neighbouring rounds share the load of the machine, so their ratios vary less than
either series. The median of the pairs' ratios has an interval that makes no assumption about their
distribution: two order statistics between which it lies with the probability asked for
(Conover, "Practical nonparametric statistics", 1999, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """A median ratio and the interval that holds it with `CONFIDENCE`."""

    median: float
    low: float
    high: float


def ratio_of(reference_s: Sequence[float], candidate_s: Sequence[float]) -> Ratio:
    """Return how many times as fast the candidate is, from the seconds of rounds A B A B.

    Parameters
    ----------
    reference_s, candidate_s : seconds of the same number of rounds, at least one, in the order in which they ran.

    Returns
    -------
    Ratio
        Its median is the geometric mean of the middle two if their number is even, so that exchanging
        the two series inverts all three numbers.
    """
    pairs = sorted(a / b for a, b in zip(reference_s, candidate_s, strict=True))
    rank = interval_rank(len(pairs))
    middle = math.sqrt(pairs[(len(pairs) - 1) // 2] * pairs[len(pairs) // 2])
    return Ratio(middle, pairs[rank], pairs[-1 - rank])


def interval_rank(n: int, confidence: float = CONFIDENCE) -> int:
    """Return the greatest r such that the r-th least and r-th greatest of ``n`` hold the median with ``confidence``.

    Ranks count from 0. Of a few values (below six, for 95 %) even the extremes miss it; they are the answer then.
    """
    tail, rank = 0.0, -1
    while rank < n // 2:
        tail += math.comb(n, rank + 1) / 2**n
        if tail > (1 - confidence) / 2:
            break
        rank += 1
    return max(rank, 0)
