"""Timing that a shared, noisy machine cannot fool: rounds A B A B, medians, ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def interleave(cases: Mapping[str, Callable[[], object]], *, rounds: int = 15) -> dict[str, float]:
    """Run every case once to warm up, then all of them in turn; return median seconds by name."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for run in cases.values():
        run()
    for _ in range(rounds):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            samples[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in samples.items()}
