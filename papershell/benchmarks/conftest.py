"""Options and fixtures of the suites; `papershell bench run` starts them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks import ceilings, machine, records
from papershell.benchmarks.measure import Measure
from papershell.benchmarks.mnist import find_images
from papershell.benchmarks.runner import FULL_S
from papershell.kernels import read_idx

CEILING_ROUNDS_PER_S = 5  # of a benchmark's budget


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budget", type=float, default=FULL_S, help="seconds that each benchmark is measured")
    parser.addoption(
        "--on", default="any", choices=("any", "cpu", "cuda"), help="run only the cases on this device"
    )
    parser.addoption("--record", type=Path, help="file that holds what was measured so far, at any time")


class Session:
    """What a run knows beside pytest: its machine, measured once, and the file that it keeps up to date.

    Each file of suites is a process of its own; the later ones go on with what the record holds.
    """

    def __init__(self, config: pytest.Config):
        self.config, self.path = config, config.getoption("record")
        self.budget_s = config.getoption("budget")
        self.before = records.read_run(self.path) if self.path and self.path.exists() else None
        self.limits = self.before["machine_info"][records.BLOCK]["ceilings"] if self.before else {}

    def ceilings(self) -> dict[str, Any]:
        """Those of the machine, measured before the first benchmark that has one."""
        if not self.limits:
            self.limits = ceilings.measure(rounds=max(3, round(self.budget_s * CEILING_ROUNDS_PER_S)))
        return self.limits

    @cached_property
    def machine_info(self) -> dict[str, Any]:
        """pytest-benchmark's machine block with ours in it."""
        if self.before:
            return self.before["machine_info"]
        info = self.config.hook.pytest_benchmark_generate_machine_info(config=self.config)
        ours = machine.describe(info["cpu"].get("brand_raw", info["machine"]))
        return {**info, records.BLOCK: {"format": records.FORMAT, "budget_s": self.budget_s, **ours}}

    @cached_property
    def commit_info(self) -> dict[str, Any]:
        """pytest-benchmark's."""
        return self.config.hook.pytest_benchmark_generate_commit_info(config=self.config)

    def save(self) -> None:
        """Write what was measured so far, so that a run that is stopped keeps it."""
        measured = [stats for stats in self.config._benchmarksession.benchmarks if stats]  # type: ignore[attr-defined]
        if not self.path or not measured:
            return
        self.machine_info[records.BLOCK]["ceilings"] = self.limits
        run = self.config.hook.pytest_benchmark_generate_json(
            config=self.config, benchmarks=measured, include_data=True,
            machine_info=self.machine_info, commit_info=self.commit_info,
        )  # fmt: skip
        if self.before:
            run["benchmarks"] = [*(records.benchmarks_of(self.before) | records.benchmarks_of(run)).values()]
        records.write_run(self.path, run)


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    """This run."""
    return Session(pytestconfig)


@pytest.fixture
def measure(benchmark: Any, session: Session) -> Iterator[Measure]:
    """See `Measure`."""
    yield Measure(benchmark, session.budget_s, session.ceilings, session.config.getoption("on"))
    session.save()


@pytest.fixture(scope="session")
def images_path() -> Path:
    """MNIST's training images, as the file that they come in."""
    try:
        return find_images()
    except SystemExit as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def images(images_path: Path) -> np.ndarray:
    """MNIST's training images (60000, 784) uint8."""
    X = read_idx(images_path)
    return X.reshape(len(X), -1)


@pytest.fixture(scope="session")
def labels(images_path: Path) -> np.ndarray:
    """Their labels (60000,) int64."""
    return read_idx(images_path.with_name("train-labels-idx1-ubyte.gz")).astype(np.int64)
