"""The fixture ``measure``: times a case against its reference, in interleaved rounds.

The numbers go into pytest-benchmark's own JSON (``stats`` of the case, ``extra_info`` for the rest), so that
pytest-benchmark's ``compare`` reads it. A reference measured against itself shows how far two runs of the
same code differ: the off-versus-off control.

A call that takes longer than the budget is timed once, after the first call: minutes need no rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import pytest

from papershell.benchmarks.case import Call, Case
from papershell.benchmarks.ceilings import Trial, make, on_device
from papershell.benchmarks.clocks import CudaClock, HostClock, clock_of
from papershell.benchmarks.interleave import rounds_of
from papershell.benchmarks.memory import watched
from papershell.benchmarks.ratios import ratio_of
from papershell.kernels import backends

ROUND_S = 2e-3  # shorter calls are repeated within a round, so that the clock's own cost is lost in it
LEAST_CALL_S = 1e-7  # a single shorter call may take no time by the clock
LEAST_ROUNDS, MOST_ROUNDS = 3, 99


@dataclass(frozen=True)
class Limit:
    """The ceiling that bounds a case: its name, how it is reached, and its rate when the run started."""

    name: str
    trial: Trial
    start: float


@dataclass(frozen=True)
class Rounds:
    """Seconds of a call in each round (``case``, ``reference``, ``limit``); the case's last result, and its memory."""

    seconds: dict[str, list[float]]
    iterations: int
    result: Any
    memory: Mapping[str, float] = field(default_factory=dict)


class Latest:
    """A call that keeps its latest result."""

    def __init__(self, call: Call):
        self.call, self.result = call, None

    def __call__(self) -> None:
        self.result = None  # freed first, as a result that the caller drops
        self.result = self.call()


class Measure:
    """The fixture ``measure``; call it with a `Case`.

    Parameters
    ----------
    benchmark : pytest-benchmark's fixture.
    budget_s : seconds to measure, as long as they hold `LEAST_ROUNDS` to `MOST_ROUNDS` rounds.
    ceilings : returns the ceilings measured when the run started: value and unit by name.
    device : skip cases that run on another device; ``any`` to skip none.
    """

    def __init__(
        self, benchmark: Any, budget_s: float, ceilings: Callable[[], Mapping[str, Any]], device: str = "any"
    ):
        self.benchmark, self.budget_s, self.ceilings, self.device = benchmark, budget_s, ceilings, device

    def __call__(self, case: Case) -> None:
        """Check the case, time it against its reference, check it again, record.

        Raises
        ------
        AssertionError
            The result is wrong, before or after; then no time is recorded.
        """
        if self.device not in ("any", case.device):
            pytest.skip(f"runs on {case.device}; the run is for {self.device}")
        begun = time.perf_counter()
        result = case.call()
        first_call_s = time.perf_counter() - begun  # of a device: until the host goes on
        case.check(result, "before")
        del result
        if self.benchmark.disabled:  # pytest --benchmark-disable: whether all is right, not how fast
            return
        clock, limit = clock_of(case.device), self._limit(case)
        rounds = self._time(case, clock, limit)
        error = case.check(rounds.result, "after")
        facts = {"first_call_s": first_call_s, "error": error, **rounds.memory, **case.facts(rounds.result)}
        self._record(case, rounds, facts | clock.details(case.call, rounds.iterations), limit)

    def _limit(self, case: Case) -> Limit | None:
        name = on_device(case.work.ceiling, case.device) if case.work.ceiling else ""
        found = self.ceilings().get(name) if name else None
        return Limit(name, make(name), found["value"]) if found else None

    def _time(self, case: Case, clock: HostClock | CudaClock, limit: Limit | None) -> Rounds:
        """Time case, reference and limit in turn; once, if the case takes longer than the budget."""
        latest = Latest(case.call)
        calls: dict[str, Call] = {"reference": case.reference.call, "case": case.call}
        if case.reference.seconds is not None:
            del calls["reference"]
        elif not case.is_reference:
            case.reference.call()  # its first call is no measurement
        if limit:
            calls["limit"] = limit.trial.fastest()
        once = {name: clock.seconds(latest if name == "case" else run, 1) for name, run in calls.items()}
        if once["case"] > self.budget_s:
            return _with_reference(case, Rounds({name: [s] for name, s in once.items()}, 1, latest.result))
        del latest
        repeats = {name: repeats_of(seconds) for name, seconds in once.items()}

        def timer(name: str) -> float:
            time.sleep(case.rest_s)
            return clock.seconds(calls[name], repeats[name][0])

        turn_s = sum(seconds + case.rest_s for _, seconds in repeats.values())
        seconds = rounds_of({name: partial(timer, name) for name in calls}, self._count(turn_s))
        result, memory = watched(case.call)
        return _with_reference(case, Rounds(seconds, repeats["case"][0], result, memory))

    def _count(self, turn_s: float) -> int:
        return min(max(int(self.budget_s / turn_s), LEAST_ROUNDS), MOST_ROUNDS)

    def _record(self, case: Case, rounds: Rounds, facts: Mapping[str, Any], limit: Limit | None) -> None:
        seconds = rounds.seconds
        ratio = ratio_of(seconds["reference"], seconds["case"])
        self.benchmark.group = case.group
        self.benchmark.extra_info.update(
            case=case.name, reference=case.reference.name, is_reference=case.is_reference,
            dtype=case.dtype, backend=case.backend, device=case.device,
            ratio=ratio.median, ratio_low=ratio.low, ratio_high=ratio.high, reference_s=median(seconds["reference"]),
            **facts, **case.work.rates(seconds["case"]),
        )  # fmt: skip
        if limit:
            percent = case.work.percent(seconds["case"], limit.trial, seconds["limit"], limit.start)
            self.benchmark.extra_info.update(ceiling=limit.name, percent_of_ceiling=percent)
        self._hand_over(seconds["case"], rounds.iterations)

    def _hand_over(self, seconds: list[float], iterations: int) -> None:
        """Give the rounds to pytest-benchmark, whose own loops cannot interleave two calls."""
        self.benchmark._mode = "measure"
        stats = self.benchmark._make_stats(iterations)
        for value in seconds:
            stats.update(value * iterations)


def _with_reference(case: Case, rounds: Rounds) -> Rounds:
    """Return the rounds with the seconds of a reference that was timed before, the same in each."""
    if case.reference.seconds is not None:
        rounds.seconds["reference"] = [case.reference.seconds] * len(rounds.seconds["case"])
    return rounds


def repeats_of(seconds: float) -> tuple[int, float]:
    """Return how many calls of so many seconds make a round, and the seconds of a round."""
    seconds = max(seconds, LEAST_CALL_S)
    count = math.ceil(ROUND_S / seconds)
    return count, count * seconds


def need(backend: str) -> None:
    """Skip if a back end is absent, with its reason."""
    if not backends.is_available(backend):
        pytest.skip(f"{backend}: {backends.available_backends()[backend]}")


def device_of(backend: str) -> str:
    """Return the device that a back end computes on here: ``cpu`` or ``cuda``."""
    on_gpu = backend in ("cupy", "numba-cuda") or (backend == "torch" and backends.torch_has_cuda())
    return "cuda" if on_gpu else "cpu"
