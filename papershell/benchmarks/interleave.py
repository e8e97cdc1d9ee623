"""Timing that a shared, noisy machine cannot fool: rounds A B A B, medians, ratios."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any


def timed(call: Callable[[], Any], iterations: int = 1) -> float:
    """Return the seconds that each of ``iterations`` calls in a row took."""
    start = time.perf_counter()
    for _ in range(iterations):
        call()
    return (time.perf_counter() - start) / iterations


def rounds_of(timers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Ask all ``timers`` in turn, ``rounds`` times over, and return each one's seconds.

    Every other round goes backwards, so that what follows upon what is nobody's advantage. Python's
    collector is held back.
    """
    samples: dict[str, list[float]] = {name: [] for name in timers}
    collecting = gc.isenabled()
    gc.disable()
    try:
        order = list(timers)
        for _ in range(rounds):
            for name in order:
                samples[name].append(timers[name]())
            order.reverse()
    finally:
        if collecting:
            gc.enable()
    return samples


def interleave(cases: Mapping[str, Callable[[], object]], *, rounds: int = 15) -> dict[str, float]:
    """Run every case once to warm up, then all of them in turn; return median seconds by name."""
    for run in cases.values():
        run()
    samples = rounds_of({name: partial(timed, run) for name, run in cases.items()}, rounds)
    return {name: median(seconds) for name, seconds in samples.items()}
