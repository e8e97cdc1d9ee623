"""Whole solves on other data than MNIST's bytes, beside scikit-learn, scikit-learn-intelex and PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from papershell.benchmarks import peers, problems, solves
from papershell.benchmarks.measure import Measure
from papershell.benchmarks.plugin import MeasureSession
from papershell.benchmarks.problems import Problem
from papershell.trainers.datasets import DataError

RATES = tuple(np.logspace(-1, 4, 16))
SMOKE_SHARE = 0.005
FAR, NEAR = "far classes", "near classes"  # 100 classes that separate, and that overlap
MAKERS: dict[str, Callable[[float], Problem]] = {
    FAR: lambda share: problems.class_centres(50_000, 768, 100, 1.0, FAR, share),
    NEAR: lambda share: problems.class_centres(50_000, 768, 100, 0.1, NEAR, share),
    "wide": lambda share: problems.class_centres(1_000, 20_000, 5, 0.1, "wide", share),
    "rare": lambda share: problems.one_in(100_000, 60, 10_000, share),
    "thousand classes": lambda share: problems.class_centres(30_000, 64, 1_000, 1.0, "", share),
    "tall": lambda share: problems.logistic(1_000_000, 20, share),
    "random features": problems.cifar10_features,
}
ALL = (peers.LBFGS, peers.INTELEX, peers.TORCH)
PEERS = {
    **dict.fromkeys((FAR, NEAR, "random features"), ALL),
    **dict.fromkeys(("wide", "rare", "tall"), ALL[:2]),
    "thousand classes": (peers.INTELEX,),
}


def make(name: str, session: MeasureSession) -> Problem:
    """Make a problem, a small one in a smoke run; skip if its data is not there."""
    try:
        return MAKERS[name](SMOKE_SHARE if session.is_smoke else 1.0)
    except DataError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "peer"), [(name, peer) for name in MAKERS for peer in PEERS[name]])
def test_one_rate(measure: Measure, measure_session: MeasureSession, name: str, peer: str) -> None:
    measure(solves.at_objective_of(peer, make(name, measure_session), 1.0, measure.budget_s))


@pytest.mark.slow
@pytest.mark.parametrize("name", [FAR])
def test_sixteen_rates(measure: Measure, measure_session: MeasureSession, name: str) -> None:
    measure(solves.many_rates(1e-4, peers.INTELEX, make(name, measure_session), RATES))


@pytest.mark.parametrize("gap", [1e-4, 1e-6])
def test_passes_on_cifar10(measure: Measure, measure_session: MeasureSession, gap: float) -> None:
    try:
        problem = problems.cifar10(SMOKE_SHARE if measure_session.is_smoke else 1.0)
    except DataError as error:
        pytest.skip(str(error))
    measure(solves.true_gap(gap, problem, 1.0))
