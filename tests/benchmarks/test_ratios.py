"""Ratios of interleaved rounds: what their intervals cover, and what exchanging the series does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from papershell.benchmarks.ratios import CONFIDENCE, interval_rank, ratio_of

SECONDS = st.floats(1e-9, 1e4)


def coverage(n: int, rank: int) -> float:
    """Probability that the median lies between the order statistics ``rank`` and ``n - 1 - rank``."""
    return float(binom.cdf(n - rank - 1, n, 0.5) - binom.cdf(rank, n, 0.5))


@pytest.mark.parametrize("n", [6, 7, 8, 9, 12, 25, 50, 99])
def test_the_interval_is_the_narrowest_that_covers_enough(n: int) -> None:
    rank = interval_rank(n)
    assert coverage(n, rank) >= CONFIDENCE > coverage(n, rank + 1)


@pytest.mark.parametrize("n", range(1, 6))
def test_few_rounds_give_the_extremes(n: int) -> None:
    pairs = [1.0 + index for index in range(n)]
    found = ratio_of(pairs, [1.0] * n)
    assert (found.low, found.high) == (1.0, float(n))


@pytest.mark.parametrize("n", [9, 20, 99])
def test_intervals_of_skewed_rounds_hold_the_true_ratio(n: int) -> None:
    """Each series is three parts common disturbance, so only pairs show the ratio of 1.25."""
    rng = np.random.default_rng(n)
    trials, held = 2000, 0
    for _ in range(trials):
        shared = rng.pareto(1.5, n) + 1
        a, b = (shared * (1 + 0.1 * rng.exponential(size=n)) for _ in range(2))
        found = ratio_of(1.25 * a, b)
        held += found.low <= 1.25 <= found.high
    allowance = 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / trials)
    assert held / trials >= CONFIDENCE - allowance


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=40))
def test_exchanging_the_series_inverts_the_ratio(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = ratio_of(a, b), ratio_of(b, a)
    assert there.low <= there.median <= there.high
    assert [back.median, back.low, back.high] == pytest.approx(
        [1 / there.median, 1 / there.high, 1 / there.low]
    )


def test_series_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError):
        ratio_of([1.0, 2.0], [1.0])
