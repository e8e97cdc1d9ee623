"""Benchmarks that wait for orders: ``papershell bench check --against`` asks processes of two commits for turns.

Such a process runs pytest. Each test that hands a case to the fixture ``measure`` then times calls whenever the parent
asks, over two pipes, one JSON object a line:

    process                                      parent
    {"protocol": 1, "keys": [...]}               {"keys": [...]}    tests that it has; those to run, in this order
    {"key": ..., "call_s": ...}                  {"calls": 12}      a case is ready; time 12 calls
    {"seconds": ...}                             {"calls": 0}       of each call; the case is done
    {"ended": ..., "outcome": ..., "said": ...}                     the test is over

A process that waits is blocked on its pipe and takes no core: before each answer it lets the threads of BLAS and
OpenMP, which spin for a while after a call, come to rest.
"""

from __future__ import annotations

import gc
import json
import os
import time
from typing import Any

import pytest

from papershell.benchmarks.case import Case
from papershell.benchmarks.clocks import clock_of
from papershell.benchmarks.records import OUTSIDE

PROTOCOL = 1
STEP_S, MOST_REST_S = 2e-3, 0.25  # the threads are asked so often, and waited for at most so long
AT_REST = 0.25  # cores in use, at most


class Served:
    """The plugin of such a process: it runs the tests that the parent chose, each as long as the parent asks."""

    def __init__(self, config: pytest.Config, pipes: str):
        reading, writing = map(int, pipes.split(","))
        self.replies, self.messages = os.fdopen(reading), os.fdopen(writing, "w")
        self.prefix = OUTSIDE if config.getoption("measure_outside") else ""
        self.device = config.getoption("measure_device")
        self.outcome, self.said = "passed", ""

    def tell(self, **message: Any) -> None:
        """Send a message."""
        self.messages.write(json.dumps(message) + "\n")
        self.messages.flush()

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a message and wait for the reply; end the run if the parent is gone."""
        self.tell(**message)
        if not (line := self.replies.readline()):
            pytest.exit("the process that compares is gone")
        return json.loads(line)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Say which benchmarks there are, and keep those that the parent chose."""
        measured = {f"{self.prefix}{item.nodeid}": item for item in items if _measures(item)}
        chosen = self.ask(protocol=PROTOCOL, keys=[*measured], errors=session.testsfailed)
        items[:] = [measured[key] for key in chosen["keys"]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say how a test ended, once it is taken down."""
        if report.outcome != "passed" and self.outcome != "failed":
            self.outcome, self.said = report.outcome, _reason(report)
        if report.when == "teardown":
            self.tell(ended=f"{self.prefix}{report.nodeid}", outcome=self.outcome, said=self.said)
            self.outcome, self.said = "passed", ""

    def serve(self, key: str, case: Case) -> None:
        """Check the case, then time its calls for as long as the parent asks.

        Raises
        ------
        AssertionError
            The result is wrong.
        """
        if self.device not in ("any", case.device):
            pytest.skip(f"runs on {case.device}; the check is for {self.device}")
        case.check(case.call(), "before")
        clock = clock_of(case.device)
        answer = {"key": f"{self.prefix}{key}", "call_s": clock.seconds(case.call, 1)}
        settle()
        while calls := self.ask(**answer)["calls"]:
            answer = {"seconds": turn(case, clock, calls)}
            settle()
        case.check(case.call(), "after")


def turn(case: Case, clock: Any, calls: int) -> float:
    """Return the seconds of each of ``calls`` calls; several follow one that warms the caches."""
    if calls > 1:
        case.call()
    collecting = gc.isenabled()
    gc.disable()
    try:
        return float(clock.seconds(case.call, calls))
    finally:
        if collecting:
            gc.enable()


def settle() -> None:
    """Wait until no thread of this process computes any more."""
    end = time.perf_counter() + MOST_REST_S
    busy = True
    while busy and time.perf_counter() < end:
        begun, used = time.perf_counter(), time.process_time()
        time.sleep(STEP_S)
        busy = time.process_time() - used > AT_REST * (time.perf_counter() - begun)


def _measures(item: pytest.Item) -> bool:
    return "measure" in getattr(item, "fixturenames", ())


def _reason(report: pytest.TestReport) -> str:
    """Return one line on why a test failed or was skipped."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).partition("\n")[0]
