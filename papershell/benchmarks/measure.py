"""The fixture ``measure``: a case against the reference of its group, in interleaved rounds.

What it finds goes into pytest-benchmark's own JSON (``stats`` of the case, ``extra_info`` for the rest),
so that pytest-benchmark's ``compare`` reads it. The reference is a case of its group too: measured
against itself, it shows how far two runs of the same code differ, the off-versus-off control.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks.ceilings import GPU, Trial, make
from papershell.benchmarks.clocks import CudaClock, HostClock
from papershell.benchmarks.interleave import rounds_of
from papershell.benchmarks.ratios import ratio_of
from papershell.kernels import backends

ROUND_S = 2e-3  # shorter calls are repeated within a round, so that the clock's own cost is lost in it
LEAST_CALL_S = 1e-7  # a clock may see nothing of a single shorter one
LEAST_ROUNDS, MOST_ROUNDS = 3, 99
BLOCK = 1 << 16  # numbers compared at a time, within a cache
Call = Callable[[], Any]


@dataclass(frozen=True)
class Work:
    """What one call needs to do, and which ceiling of `papershell.benchmarks.ceilings` bounds it.

    Attributes
    ----------
    moved_bytes : read plus written, each once.
    flops : arithmetic operations.
    ceiling : its name; its unit says whether bytes or operations are compared with it.
    """

    moved_bytes: int | None = None
    flops: int | None = None
    ceiling: str | None = None

    def rates(self, seconds: Sequence[float]) -> dict[str, float | None]:
        """Return bytes, operations, and both a second in the median round."""
        typical = median(seconds)
        return {
            "bytes": self.moved_bytes,
            "flops": self.flops,
            "GB_per_s": self.moved_bytes and self.moved_bytes / typical / 1e9,
            "GFLOP_per_s": self.flops and self.flops / typical / 1e9,
        }

    def percent(
        self, seconds: Sequence[float], limit: Trial, limit_s: Sequence[float], start: float
    ) -> float:
        """Return what share of the ceiling's rate the best round reached, in percent.

        The ceiling is the best of it too: in ``limit_s``, rounds in between, or ``start``, when the run started.
        """
        amount = self.moved_bytes if limit.unit == "GB/s" else self.flops
        ceiling = max(limit.rate(min(limit_s)), start)
        return 100 * (amount or 0) / min(seconds) / 1e9 / ceiling


class Measure:
    """What the fixture ``measure`` is.

    Parameters
    ----------
    benchmark : pytest-benchmark's fixture.
    budget_s : how long to measure, for as long as that makes `LEAST_ROUNDS` to `MOST_ROUNDS` rounds.
    ceilings : returns those that were measured when the run started: value and unit by name.
    device : skip cases that run on another one; ``any`` for none.
    """

    def __init__(
        self, benchmark: Any, budget_s: float, ceilings: Callable[[], Mapping[str, Any]], device: str = "any"
    ):
        self.benchmark, self.budget_s, self.ceilings, self.device = benchmark, budget_s, ceilings, device

    def __call__(
        self,
        cases: Mapping[str, Call],
        case: str,
        *,
        group: str,
        error: Callable[[Any], float],
        tolerance: float,
        dtype: str,
        backend: str = "",
        device: str = "cpu",
        work: Work = Work(),
        rest_s: float = 0.0,
    ) -> None:
        """Check ``cases[case]``, time it against the first of ``cases``, check it again, record.

        Parameters
        ----------
        cases : calls by name; the first is the reference of all.
        group : pytest-benchmark's group.
        error : of a result, relative, against what float64 says, of either sign; nan for a wrong one.
        tolerance : largest size of an error that is right.
        dtype, backend : to show.
        device : ``cpu``, or ``cuda`` for calls that return before they are done.
        work : bytes, operations, ceiling.
        rest_s : pause before each timed call, for BLAS, whose threads spin on and take a core from whoever is next.

        Raises
        ------
        AssertionError
            The result is wrong, before or after; then no time is recorded.
        """
        if self.device not in ("any", device):
            pytest.skip(f"runs on {device}, asked for is {self.device}")
        reference, call = next(iter(cases)), cases[case]
        clock = CudaClock() if device == "cuda" else HostClock()
        begun = time.perf_counter()
        result = call()
        first_call_s = time.perf_counter() - begun  # of a device: until the host goes on
        check(result, error, tolerance, "before")
        if case != reference:
            cases[reference]()
        calls = {"A": cases[reference], "B": call}
        ceiling = f"{work.ceiling}{GPU if device == 'cuda' else ''}" if work.ceiling else ""
        limit = make(ceiling) if ceiling and ceiling in self.ceilings() else None
        if limit:
            calls["limit"] = limit.fastest()
        repeats = {name: repeats_of(clock.seconds(run, 1)) for name, run in calls.items()}

        def timer(name: str) -> float:
            time.sleep(rest_s)
            return clock.seconds(calls[name], repeats[name][0])

        turn_s = sum(seconds + rest_s for _, seconds in repeats.values())
        samples = rounds_of({name: partial(timer, name) for name in calls}, self._rounds(turn_s))
        details = clock.details(call, repeats["B"][0])
        found = check(call(), error, tolerance, "after")
        ratio = ratio_of(samples["A"], samples["B"])
        self.benchmark.group = group
        self.benchmark.extra_info.update(
            case=case, reference=reference, is_reference=case == reference, dtype=dtype, backend=backend,
            device=device, error=found, first_call_s=first_call_s,
            ratio=ratio.median, ratio_low=ratio.low, ratio_high=ratio.high,
            **details, **work.rates(samples["B"]),
        )  # fmt: skip
        if limit:
            percent = work.percent(samples["B"], limit, samples["limit"], self.ceilings()[ceiling]["value"])
            self.benchmark.extra_info.update(ceiling=ceiling, percent_of_ceiling=percent)
        self._record(samples["B"], repeats["B"][0])

    def _rounds(self, turn_s: float) -> int:
        return min(max(int(self.budget_s / turn_s), LEAST_ROUNDS), MOST_ROUNDS)

    def _record(self, seconds: list[float], iterations: int) -> None:
        """Hand the rounds to pytest-benchmark, whose own loops cannot interleave two calls."""
        self.benchmark._mode = "measure"
        stats = self.benchmark._make_stats(iterations)
        for value in seconds:
            stats.update(value * iterations)


def check(result: Any, error: Callable[[Any], float], tolerance: float, when: str) -> float:
    """Return the size of a result's error; raise AssertionError where it is above ``tolerance``, or nan."""
    found = abs(float(error(result)))
    assert found <= tolerance, (
        f"wrong result {when} timing: its error is {found:.1e}, {tolerance:.1e} is allowed; no time is recorded"
    )
    return found


def repeats_of(seconds: float) -> tuple[int, float]:
    """Return how many calls of so many seconds make a round, and the seconds of a round."""
    seconds = max(seconds, LEAST_CALL_S)
    count = math.ceil(ROUND_S / seconds)
    return count, count * seconds


def against(expected: np.ndarray) -> Callable[[Any], float]:
    """Return what measures a result's error: the largest difference, relative to the largest of ``expected``."""
    scale = float(np.abs(expected).max()) or 1.0

    def error(result: Any) -> float:
        found = to_numpy(result)
        if found.shape != expected.shape:
            return math.inf
        flat, right = found.reshape(-1), expected.reshape(-1)
        blocks = (slice(first, first + BLOCK) for first in range(0, right.size, BLOCK))
        largest = [np.abs(np.subtract(flat[b], right[b], dtype=np.float64)).max() for b in blocks]
        return float(np.max(largest)) / scale  # NumPy's, for Python's drops a nan

    return error


def to_numpy(array: Any) -> np.ndarray:
    """Return an array of any library on the host."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    return array.get() if hasattr(array, "get") else np.asarray(array)


def need(backend: str) -> None:
    """Skip where a back end is absent, with its reason."""
    if not backends.is_available(backend):
        pytest.skip(f"{backend}: {backends.available_backends()[backend]}")


def device_of(backend: str) -> str:
    """Return where a back end computes here: ``cpu`` or ``cuda``."""
    on_gpu = backend in ("cupy", "numba-cuda") or (backend == "torch" and backends.torch_has_cuda())
    return "cuda" if on_gpu else "cpu"
