"""Rounds A B B A: timing that a shared, noisy machine cannot fool."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any


def timed(call: Callable[[], Any], iterations: int = 1) -> float:
    """Return the seconds that each of ``iterations`` calls in a row took."""
    start = time.perf_counter()
    for _ in range(iterations):
        call()
    return (time.perf_counter() - start) / iterations


def rounds_of(timers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Ask all ``timers`` in turn, ``rounds`` times over, and return each one's seconds.

    Every other round goes backwards, so that no call always follows the same other call. Python's collector
    is held back.
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
