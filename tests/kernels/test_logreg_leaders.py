"""Leaders: one of several neighbouring rates takes the first passes for all, where preconditioners cost much."""

from __future__ import annotations

import numpy as np
import pytest

from papershell.kernels import Status, fit_path
from papershell.kernels.logreg import preconditioner
from papershell.kernels.logreg.iteration import leaders
from papershell.kernels.logreg.path import Settings
from papershell.kernels.logreg.problem import Problem
from tests.kernels.logreg_reference import ON_HOST, blobs, in_bytes

RATES = [0.2, 0.1, 0.4, 3.0, 5.0, 200.0]
DEAR = Settings(preconditioner=preconditioner.Settings(pass_overhead=0.0))  # a pass costs its products alone
GAP = 1e-6


def problem(rate: float, fold: int = 0) -> Problem:
    return Problem(fold, None, np.full(3, rate), np.ones(2), np.inf, GAP)


def test_neighbours_follow_the_one_in_the_middle() -> None:
    problems = {number: problem(rate) for number, rate in enumerate(RATES)}
    assert leaders(problems, near=5.0) == {0: [1, 2], 4: [3], 5: []}


def test_folds_do_not_follow_each_other_and_no_penalty_follows_none() -> None:
    problems = {0: problem(1.0), 1: problem(1.0, fold=1), 2: problem(0.0), 3: problem(1.1, fold=1)}
    assert leaders(problems, near=5.0) == {2: [], 0: [], 3: [1]}


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("kind", ["floats", "bytes"])
@pytest.mark.parametrize("backend", ON_HOST)
def test_followers_reach_the_optimum_that_each_rate_has_alone(backend, kind, loss) -> None:
    X, y = blobs()
    X, scale = (in_bytes(X), 1 / 255) if kind == "bytes" else (X, 1.0)
    folds = np.stack([np.arange(len(y)) % 2, np.ones(len(y))])
    options = {"loss": loss, "scale": scale, "gap": GAP, "backend": backend}
    company = fit_path(X, y, RATES, folds=folds, settings=DEAR, **options)
    assert (company.status == Status.PROVEN).all()
    for r, rate in enumerate(RATES):
        alone = fit_path(X, y, rate, **options)
        assert abs(company.loss[1, r] / alone.loss[0] - 1) <= GAP


def test_followers_of_a_leader_that_ran_out_of_steps_say_so_too() -> None:
    X, y = blobs()
    path = fit_path(X, y, RATES, gap=GAP, max_iter=2, settings=DEAR, backend="numpy")
    assert (path.n_iter <= 2).all() and (path.gap[path.status == Status.PROVEN] <= GAP).all()
    assert Status.MAX_ITER in set(path.status)
