"""The pytest plugin: the fixture ``measure``, for our suites and for anybody's tests.

pytest loads it if papershell is installed (entry point ``pytest11``); heavy imports wait until a test
asks for ``measure``. ``papershell bench run`` starts pytest with it and keeps a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from papershell.benchmarks.case import Case
    from papershell.benchmarks.measure import Measure

FULL_S, SMOKE_S = 3.0, 0.2  # seconds that each case is measured
CEILING_ROUNDS_PER_S = 5  # of that budget
SERVED = "papershell.benchmarks.served"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("measure", "papershell's benchmarks (the fixture measure)")
    group.addoption("--measure-budget", type=float, default=FULL_S, help="seconds that each case is measured")
    group.addoption(
        "--measure-device",
        default="any",
        choices=("any", "cpu", "cuda"),
        help="only the cases on this device",
    )
    group.addoption("--measure-record", type=Path, help="file for the results; it is kept up to date")
    group.addoption(
        "--measure-outside", action="store_true", help="the tests are not papershell's own suites"
    )
    group.addoption("--measure-serve", metavar="IN,OUT", help="pipes of `papershell bench check --against`")


def pytest_configure(config: pytest.Config) -> None:
    if pipes := config.getoption("measure_serve"):
        from papershell.benchmarks.serve import Served

        config.pluginmanager.register(Served(config, pipes), SERVED)


class MeasureSession:
    """A run: its machine, measured once, and the file that it keeps up to date.

    Each file of suites is a process of its own; a later process continues the record.
    """

    def __init__(self, config: pytest.Config):
        from papershell.benchmarks import records

        self.config, self.path = config, config.getoption("measure_record")
        self.budget_s = config.getoption("measure_budget")
        self.before = records.read_run(self.path) if self.path and self.path.exists() else None
        self.limits = self.before["machine_info"][records.BLOCK]["ceilings"] if self.before else {}

    @property
    def is_smoke(self) -> bool:
        """Whether the run asks if all works, not how fast it is: suites may take smaller problems then."""
        return self.budget_s < FULL_S

    def ceilings(self) -> dict[str, Any]:
        """Return the machine's ceilings, measured before the first case that has one."""
        from papershell.benchmarks import ceilings

        if not self.limits:
            self.limits = ceilings.measure(rounds=max(3, round(self.budget_s * CEILING_ROUNDS_PER_S)))
        return self.limits

    @cached_property
    def machine_info(self) -> dict[str, Any]:
        """pytest-benchmark's machine block with ours in it."""
        from papershell.benchmarks import machine, records

        if self.before:
            return self.before["machine_info"]
        info = self.config.hook.pytest_benchmark_generate_machine_info(config=self.config)
        ours = machine.describe(info["cpu"].get("brand_raw", info["machine"]))
        return {**info, records.BLOCK: {"format": records.FORMAT, "budget_s": self.budget_s, **ours}}

    @cached_property
    def commit_info(self) -> dict[str, Any]:
        """pytest-benchmark's block about the commit of the folder that pytest runs in, with its repository's page."""
        from papershell.benchmarks.trees import page_of

        commit = self.config.hook.pytest_benchmark_generate_commit_info(config=self.config)
        return {**commit, "url": page_of(Path.cwd())}

    def save(self) -> None:
        """Write all results so far, so that a run that is stopped keeps them."""
        from papershell.benchmarks import records

        measured = [stats for stats in self.config._benchmarksession.benchmarks if stats]  # type: ignore[attr-defined]
        if not self.path or not measured:
            return
        self.machine_info[records.BLOCK]["ceilings"] = self.limits
        run = self.config.hook.pytest_benchmark_generate_json(
            config=self.config, benchmarks=measured, include_data=True,
            machine_info=self.machine_info, commit_info=self.commit_info,
        )  # fmt: skip
        if self.config.getoption("measure_outside"):
            for benchmark in run["benchmarks"]:
                benchmark["fullname"] = f"{records.OUTSIDE}{benchmark['fullname']}"
        if self.before:
            run["benchmarks"] = [*(records.benchmarks_of(self.before) | records.benchmarks_of(run)).values()]
        records.write_run(self.path, run)


@pytest.fixture(scope="session")
def measure_session(pytestconfig: pytest.Config) -> MeasureSession:
    """This run."""
    return MeasureSession(pytestconfig)


@pytest.fixture
def measure(
    benchmark: Any, measure_session: MeasureSession, request: pytest.FixtureRequest
) -> Iterator[Measure | Callable[[Case], None]]:
    """Call it with a `papershell.benchmarks.case.Case`; see `papershell.benchmarks.measure.Measure`."""
    if served := request.config.pluginmanager.get_plugin(SERVED):
        yield partial(served.serve, request.node.nodeid)
        return
    from papershell.benchmarks.measure import Measure

    device = measure_session.config.getoption("measure_device")
    yield Measure(benchmark, measure_session.budget_s, measure_session.ceilings, device)
    measure_session.save()
