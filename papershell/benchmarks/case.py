"""A case: one way to do the work of a group, and how its result and its speed are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from papershell.benchmarks.ceilings import KNOWN, Trial

BLOCK = 1 << 16  # numbers compared at a time, within a cache
Call = Callable[[], Any]


@dataclass(frozen=True)
class Work:
    """The least that one call has to do, and the ceiling of `papershell.benchmarks.ceilings` that bounds it.

    Attributes
    ----------
    moved_bytes : read plus written, each once.
    flops : arithmetic operations.
    ceiling : its name; its unit says whether bytes or operations are compared with it.

    Raises
    ------
    ValueError
        There is no ceiling of that name.
    """

    moved_bytes: int | None = None
    flops: int | None = None
    ceiling: str | None = None

    def __post_init__(self) -> None:
        if self.ceiling and self.ceiling not in KNOWN:
            raise ValueError(f"unknown ceiling {self.ceiling!r}; choose among: {'; '.join(KNOWN)}")

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
        """Return the share of the ceiling's rate that the best round reached, in percent.

        The best of the ceiling counts too: in ``limit_s``, rounds in between, or ``start``, its rate when
        the run started. A call that is faster shows that more can be reached: it is the ceiling then.
        """
        amount = self.moved_bytes if limit.unit == "GB/s" else self.flops
        rate = (amount or 0) / min(seconds) / 1e9
        return 100 * rate / max(limit.rate(min(limit_s)), start, rate)


@dataclass(frozen=True)
class Reference:
    """The way that a case is compared with.

    Attributes
    ----------
    name : of the way.
    call : does the work; takes no arguments.
    seconds : of its one call, if it was timed before because it takes too long to repeat; None to time it in
        rounds with the case.
    """

    name: str
    call: Call
    seconds: float | None = None


@dataclass(frozen=True)
class Case:
    """One way to do the work of a group.

    Attributes
    ----------
    group : the work; its cases are shown together.
    name : of this way.
    call : does the work; takes no arguments.
    reference : the way to compare with; a case of the same name is the reference itself.
    error : of a result: relative, against float64, of either sign; nan for a wrong result.
    tolerance : largest size of an error that is right.
    work : bytes, operations, ceiling.
    dtype, backend : shown beside the times.
    device : ``cpu``, or ``cuda`` for a call that returns before its work is done.
    rest_s : seconds of rest before each timed call; for BLAS, whose threads spin on and take a core from the next.
    facts : of a result: further numbers to record, by the names that `papershell.benchmarks.records` knows.
    """

    group: str
    name: str
    call: Call
    reference: Reference
    error: Callable[[Any], float]
    tolerance: float
    work: Work = Work()
    dtype: str = ""
    backend: str = ""
    device: str = "cpu"
    rest_s: float = 0.0
    facts: Callable[[Any], Mapping[str, float]] = field(default=lambda result: {})

    @classmethod
    def among(cls, calls: Mapping[str, Call], name: str, **settings: Any) -> Case:
        """Return the case ``name`` of ``calls``, whose first is the reference of all; ``settings`` as in `Case`."""
        first = next(iter(calls))
        return cls(name=name, call=calls[name], reference=Reference(first, calls[first]), **settings)

    @property
    def is_reference(self) -> bool:
        """Whether the case is measured against itself: the control that shows the noise."""
        return self.name == self.reference.name

    def check(self, result: Any, when: str) -> float:
        """Return the size of a result's error; raise AssertionError if it is above the tolerance, or nan."""
        found = abs(float(self.error(result)))
        assert found <= self.tolerance, (
            f"wrong result {when} timing: its error is {found:.1e}, {self.tolerance:.1e} is allowed; "
            f"no time is recorded"
        )
        return found


def against(expected: np.ndarray) -> Callable[[Any], float]:
    """Return a function of a result: its largest difference from ``expected``, relative to the largest number there."""
    scale = float(np.abs(expected).max()) or 1.0

    def error(result: Any) -> float:
        found = to_numpy(result)
        if found.shape != expected.shape:
            return math.inf
        flat, right = found.reshape(-1), expected.reshape(-1)
        blocks = (slice(first, first + BLOCK) for first in range(0, right.size, BLOCK))
        largest = [np.abs(np.subtract(flat[b], right[b], dtype=np.float64)).max() for b in blocks]
        return float(np.max(largest)) / scale  # NumPy's maximum keeps a nan, Python's drops it

    return error


def to_numpy(array: Any) -> np.ndarray:
    """Return an array of any library on the host."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    return array.get() if hasattr(array, "get") else np.asarray(array)
