"""The slowdowns that `papershell bench check` can see on this machine: ``python -m papershell.benchmarks.trials``.

Prints the fixture's own cost on a kernel of 50 microseconds, then a table of how often `papershell bench
check` finds a planted slowdown, and how often it cries wolf. Every trial is a process of its own, judged
against a history of unchanged runs, and confirmed by another process, as `check` does it.

Expected beforehand: single runs of a decoding benchmark differ by 0.8 % (one standard deviation over
processes), so a band of 99 % is 2.5 % wide to each side and finds 5 % nearly always. Found, with the band of
99.9 % that a whole night of benchmarks needs: 13 of 20 at 5 %, all at 10 and 20 %, 1 false alarm in 40.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median

import numba

from papershell.benchmarks.check import confirm, judge
from papershell.benchmarks.clocks import HostClock
from papershell.benchmarks.interleave import rounds_of, timed
from papershell.benchmarks.measure import repeats_of
from papershell.benchmarks.records import Run
from papershell.benchmarks.runner import measure_again

HISTORY_RUNS, TRIALS, UNCHANGED = 10, 20, 40
KEYS = tuple(
    f"planted/test_slowdown.py::test_decode[{case}]" for case in ("gzip + struct + frombuffer", "read_idx")
)
ASKED = {0.05: 0.5, 0.10: 0.9, 0.20: 1.0}
KERNEL_S = 50e-6
TRIAL_S = 1.0


def planted(share: float) -> Run:
    """Measure the kernel of `papershell.benchmarks.planted`, slowed down by ``share``."""
    return measure_again(KEYS, environment={"PLANTED_SHARE": str(share)}, budget_s=TRIAL_S)


def found(share: float, history: list[Run]) -> bool:
    """Return whether one trial ends in an alarm."""
    verdicts = confirm(judge(planted(share), history), history, lambda _: planted(share))
    return any(verdict.state == "slower" for verdict in verdicts)


def overhead() -> float:
    """Return the share by which the fixture's clock makes a kernel of 50 microseconds look slower."""
    kernel = partial(_spin, _cycles(KERNEL_S))
    iterations, _ = repeats_of(KERNEL_S)
    timers = {
        "bare": partial(timed, kernel, 2000),
        "fixture": partial(HostClock().seconds, kernel, iterations),
    }
    seen = rounds_of(timers, 50)
    return median(seen["fixture"]) / median(seen["bare"]) - 1


@numba.njit(cache=True)
def _spin(cycles: int) -> float:
    value = 1.0
    for _ in range(cycles):
        value = value * 1.0000001 + 1e-9
    return value


def _cycles(seconds: float) -> int:
    _spin(1)
    return round(10_000_000 * seconds / timed(partial(_spin, 10_000_000)))


def count(trial: Callable[[], bool], trials: int) -> int:
    """Return how many of ``trials`` end in an alarm."""
    return sum(trial() for _ in range(trials))


def main() -> None:
    """Print the table."""
    print(
        f"overhead of the fixture on a 50 us kernel: {100 * overhead():+.2f} %   asked below 5 %", flush=True
    )
    history = [planted(0.0) for _ in range(HISTORY_RUNS)]
    print(f"history of {HISTORY_RUNS} unchanged runs\n\n  planted   trials   alarms   asked", flush=True)
    for share, asked in ASKED.items():
        alarms = count(partial(found, share, history), TRIALS)
        print(f"  {share:6.0%} {TRIALS:9d} {alarms:8d}   at least {asked * TRIALS:.0f}", flush=True)
    alarms = count(partial(found, 0.0, history), UNCHANGED)
    print(f"  {0:6.0%} {UNCHANGED:9d} {alarms:8d}   at most 1", flush=True)


if __name__ == "__main__":
    main()
