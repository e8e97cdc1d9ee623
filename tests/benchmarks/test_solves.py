"""The solvers' referee against scikit-learn's loss, the peers, and the cases that compare `fit_path` with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from papershell.benchmarks import convergence, peers, problems, referee, solves
from papershell.benchmarks.case import Case
from papershell.benchmarks.problems import Problem

ROUNDING = 1e-12  # relative: sums of some thousand float64 losses
BUDGET_S = 60.0  # no peer takes longer here

pytestmark = pytest.mark.usefixtures("one_torch_thread", "one_blas_thread")


@pytest.fixture
def one_blas_thread() -> Iterator[None]:
    """Threads of a library that wait for each other on a busy machine take ten times as long as one."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def many() -> Problem:
    return problems.class_centres(400, 12, 5, 0.3)


@pytest.fixture(scope="module")
def two() -> Problem:
    return problems.logistic(400, 5)


@pytest.mark.parametrize("name", ["many", "two"])
def test_the_referee_agrees_with_scikit_learns_loss(name: str, request: pytest.FixtureRequest) -> None:
    problem, l2 = request.getfixturevalue(name), 0.7
    K = 1 if problem.n_classes == 2 else problem.n_classes
    rng = np.random.default_rng(0)
    coef, intercept = rng.standard_normal((K, problem.X.shape[1])), rng.standard_normal(K)
    Z = problem.X.astype(np.float64) @ coef.T + intercept
    Z = np.column_stack([np.zeros(len(Z)), Z]) if K == 1 else Z
    p = np.exp(Z - Z.max(axis=1, keepdims=True))
    losses = log_loss(problem.y, p / p.sum(axis=1, keepdims=True), normalize=False)
    right = losses + l2 / 2 * (coef**2).sum()
    assert referee.objective(problem, coef, intercept, l2) == pytest.approx(right, rel=ROUNDING)


def test_one_against_the_rest_is_the_sum_of_two_class_losses_with_the_intercept_penalized(
    many: Problem,
) -> None:
    rng = np.random.default_rng(1)
    coef, intercept, l2 = rng.standard_normal((5, 12)), rng.standard_normal(5), 2.0
    parts = [
        referee.objective(
            Problem("", many.X, (many.y == k).astype(np.int64)), coef[k : k + 1], intercept[k : k + 1], l2
        )
        for k in range(5)
    ]
    right = sum(parts) + l2 / 2 * (intercept**2).sum()
    assert referee.objective(many, coef, intercept, l2, "ovr") == pytest.approx(right, rel=ROUNDING)


@pytest.mark.parametrize("peer", peers.SOLVERS)
@pytest.mark.parametrize("name", ["many", "two"])
def test_every_peer_solves_the_same_problem(name: str, peer: str, request: pytest.FixtureRequest) -> None:
    """Peers stop where they stop; all of them near the one optimum, none below it."""
    if not peers.is_installed(peer):
        pytest.skip(f"{peer} is not installed")
    problem = request.getfixturevalue(name)
    found = peers.answer(peer, problem, 1.0)
    gap = found.objective / solves.optima(problem, (1.0,))[0] - 1
    assert found.seconds > 0 and -solves.OPTIMUM_GAP <= gap < 1e-2
    assert peers.answer(peer, problem, 1.0) is found  # run once


def run_of(case: Case) -> tuple[float, dict[str, Any]]:
    """Run a case as `measure` does: its checked error, and its facts."""
    result = case.call()
    return case.check(result, "before"), dict(case.facts(result))


@pytest.mark.parametrize("name", ["many", "two"])
def test_at_a_peers_objective_ours_is_as_good(name: str, request: pytest.FixtureRequest) -> None:
    problem = request.getfixturevalue(name)
    case = solves.at_objective_of(peers.LBFGS, problem, 1.0, BUDGET_S)
    error, facts = run_of(case)
    theirs = peers.answer(peers.LBFGS, problem, 1.0).objective
    assert facts["objective"] <= theirs * (1 + solves.OPTIMUM_GAP) and error <= facts["gap"]
    assert facts["passes"] >= 1 and case.reference.seconds is None
    assert solves.at_objective_of(peers.LBFGS, problem, 1.0, 0.0).reference.seconds is not None


def test_proven_gaps_hold_and_true_gaps_count_the_fewest_steps(many: Problem) -> None:
    error, facts = run_of(solves.proven(1e-4, peers.LBFGS, many, 1.0, BUDGET_S))
    assert error <= facts["gap"] <= 1e-4
    for gap in (1e-2, 1e-5):
        error, facts = run_of(solves.true_gap(gap, many, 1.0))
        assert error <= gap
        steps = solves.steps_to(gap, many, 1.0)
        fewer = solves.Fit(many, (1.0,), {"gap": solves.OPTIMUM_GAP, "max_iter": steps - 1})
        assert steps == 1 or fewer.distance(fewer()) > gap


def test_many_rates_stand_beside_the_sum_of_a_peers_seconds(many: Problem) -> None:
    rates = (0.5, 2.0)
    case = solves.many_rates(1e-4, peers.LBFGS, many, rates)
    error, facts = run_of(case)
    assert error <= facts["gap"] <= 1e-4 and "objective" not in facts
    assert case.reference.seconds == sum(peers.answer(peers.LBFGS, many, l2).seconds for l2 in rates)


def test_a_worse_answer_is_refused(many: Problem) -> None:
    case = solves.proven(1e-4, peers.LBFGS, many, 1.0, BUDGET_S)
    path = case.call()
    path.coef[...] *= 1.1
    with pytest.raises(AssertionError, match="wrong result before timing"):
        case.check(path, "before")


def test_the_picture_of_convergence_has_a_series_of_every_solver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], many: Problem
) -> None:
    monkeypatch.setattr(problems, "mnist", lambda share: many)
    monkeypatch.setattr(problems, "class_centres", lambda *_: many)
    convergence.main([str(tmp_path / "gap.png"), "--share", "0.1"])
    assert (tmp_path / "gap.png").read_bytes().startswith(b"\x89PNG")
    lines = [line for line in capsys.readouterr().out.splitlines() if " s: " in line]
    assert {line.split("  ")[1].strip() for line in lines} == {convergence.OURS} | {
        peer for peer in peers.SOLVERS if peers.is_installed(peer)
    }
    for line in lines:  # looser settings first: no point is worse than the one before
        gaps = [float(number) for number in re.findall(r" s: (\S+)", line)]
        assert gaps == sorted(gaps, reverse=True)
