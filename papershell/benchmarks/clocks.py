"""Clocks for a call: the host's, or CUDA events if the work happens on a device.

A CUDA call returns before its work is done. Synchronizing around each call would charge a kernel of microseconds
with the wait. So a round is a row of calls between two events; beside it is kept the host's share, the time until
the last call returned. ``cold_s`` times single calls, each after the device's L2 cache was overwritten. Not yet run
on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from papershell.benchmarks.interleave import timed
from papershell.kernels import backends

COLD_CALLS = 10
L2_FLUSH_BYTES = 256 << 20


def clock_of(device: str) -> HostClock | CudaClock:
    """Return the clock for calls on ``device``, cpu or cuda."""
    return CudaClock() if device == "cuda" else HostClock()


class HostClock:
    """The host's clock, for calls that return when they are done."""

    device = "cpu"

    def seconds(self, call: Callable[[], Any], iterations: int) -> float:
        """Return the seconds of one of ``iterations`` calls in a row."""
        return timed(call, iterations)

    def details(self, call: Callable[[], Any], iterations: int) -> dict[str, float]:
        """Return further times of ``call`` by the name under which they are recorded."""
        return {}


class CudaClock:
    """Events of CuPy or PyTorch on their current stream."""

    device = "cuda"

    def __init__(self) -> None:
        if backends.is_available("cupy"):
            import cupy

            self.event, self.elapsed_ms = cupy.cuda.Event, cupy.cuda.get_elapsed_time
            self.flush = cupy.empty(L2_FLUSH_BYTES, "uint8").fill
        else:
            import torch

            self.event = lambda: torch.cuda.Event(enable_timing=True)
            self.elapsed_ms = lambda start, stop: start.elapsed_time(stop)
            self.flush = torch.empty(L2_FLUSH_BYTES, dtype=torch.uint8, device="cuda").fill_

    def seconds(self, call: Callable[[], Any], iterations: int) -> float:
        """Return the device's seconds of one of ``iterations`` calls in a row."""
        return self._measure(call, iterations)[0]

    def details(self, call: Callable[[], Any], iterations: int) -> dict[str, float]:
        """Return the host's seconds a call (``host_s``), and the device's with a cold L2 cache (``cold_s``)."""
        host_s = self._measure(call, iterations)[1]
        cold_s = []
        for _ in range(COLD_CALLS):
            self.flush(0)
            cold_s.append(self._measure(call, 1)[0])
        return {"host_s": host_s, "cold_s": median(cold_s)}

    def _measure(self, call: Callable[[], Any], iterations: int) -> tuple[float, float]:
        start, stop = self.event(), self.event()
        start.record()
        begun = time.perf_counter()
        for _ in range(iterations):
            call()
        host_s = time.perf_counter() - begun
        stop.record()
        stop.synchronize()
        return self.elapsed_ms(start, stop) / 1e3 / iterations, host_s / iterations
