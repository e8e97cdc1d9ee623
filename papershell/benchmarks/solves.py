"""Cases of the solver suites: `fit_path` beside a peer, every objective in float64 by `papershell.benchmarks.referee`.

at the objective of a peer    the loosest gap whose answer is as good as the peer's
proven                        to a gap that `fit_path` itself proves
true gap                      stopped after as many steps as the gap to the optimum needs: for counting passes
many rates                    one batch against a peer, one rate after another

A peer runs once a process if it takes longer than the budget of a case; a shorter one in rounds with `fit_path`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks import peers
from papershell.benchmarks.case import Case, Reference
from papershell.benchmarks.problems import Problem
from papershell.kernels import PathSolution, available_backends

OPTIMUM_GAP = 1e-8  # to which the optima are found
LADDER = tuple(
    np.geomspace(100, 0.1, 13)
)  # gaps tried, in units of the peer's: a proof lags behind the true gap
MOST_STEPS = 5000
ROUNDING = 1e-12  # relative, of two sums of the same losses


@dataclass
class Fit:
    """A call of `fit_path` that counts its passes over X."""

    problem: Problem
    rates: Sequence[float]
    options: dict[str, Any] = field(default_factory=dict)
    passes: int = 0

    def __call__(self) -> PathSolution:
        self.passes = 0
        return peers.our_path(self.problem, self.rates, callback=self._count, **self.options)

    def _count(self, passes: int, *_: Any) -> None:
        self.passes = max(self.passes, passes)

    def facts(self, path: PathSolution) -> dict[str, float]:
        """Return objective (of one rate), proven gap and passes of the last call."""
        facts = {"gap": largest_gap(path), "passes": float(self.passes)}
        return facts | ({"objective": float(self.objectives(path)[0])} if len(self.rates) == 1 else {})

    def objectives(self, path: PathSolution) -> np.ndarray:
        """Return the objectives (R,) as the referee evaluates them."""
        return peers.our_objectives(self.problem, self.rates, path)

    def distance(self, path: PathSolution) -> float:
        """Return the largest true gap of a rate."""
        return float((self.objectives(path) / optima(self.problem, tuple(self.rates)) - 1).max())


def largest_gap(path: PathSolution) -> float:
    """Return the largest proven gap of a rate."""
    return float(np.max(np.asarray(path.gap, np.float64)))


@cache
def optima(problem: Problem, rates: tuple[float, ...]) -> np.ndarray:
    """Return the optimal objectives (R,), to `OPTIMUM_GAP`; the back ends are loaded from here on."""
    available_backends()  # what loading costs is measured by the suite of first calls
    fit = Fit(problem, rates, {"gap": OPTIMUM_GAP, "max_iter": MOST_STEPS})
    path = fit()
    found = fit.objectives(path)
    print(f"  optima of {problem.name}: {len(rates)} rates, proven to {largest_gap(path):.1e}")
    return found


def at_objective_of(peer: str, problem: Problem, l2: float, budget_s: float) -> Case:
    """Return the case of `fit_path` at the objective of a peer."""
    need(peer)
    found = peers.answer(peer, problem, l2)
    distance = max(found.objective / optima(problem, (l2,))[0] - 1, OPTIMUM_GAP)
    fit = Fit(problem, (l2,), {"gap": _gap_reaching(problem, l2, distance), "max_iter": MOST_STEPS})
    return Case(
        group=_group(problem, l2), name=f"fit_path at the objective of {peer}", call=fit,
        reference=_reference(peer, problem, l2, budget_s), error=fit.distance, tolerance=distance + ROUNDING,
        dtype=str(problem.X.dtype), facts=lambda path: {**fit.facts(path), "reference_gap": distance},
    )  # fmt: skip


def _gap_reaching(problem: Problem, l2: float, distance: float) -> float:
    """Return the loosest gap of the ladder at which `fit_path` ends as close to the optimum as ``distance``."""
    for step in LADDER:
        fit = Fit(problem, (l2,), {"gap": step * distance, "max_iter": MOST_STEPS})
        if fit.distance(fit()) <= distance + ROUNDING:
            return step * distance
    raise AssertionError(
        f"fit_path does not come within {distance:.1e} of the optimum of {problem.name}, l2 = {l2:g}"
    )


def proven(gap: float, peer: str, problem: Problem, l2: float, budget_s: float) -> Case:
    """Return the case of `fit_path` to a proven gap, beside a peer at its own stopping rule."""
    need(peer)
    distance = peers.answer(peer, problem, l2).objective / optima(problem, (l2,))[0] - 1
    fit = Fit(problem, (l2,), {"gap": gap})
    return Case(
        group=_group(problem, l2), name=f"fit_path, proven to {gap:.0e}", call=fit,
        reference=_reference(peer, problem, l2, budget_s), error=fit.distance, tolerance=gap,
        dtype=str(problem.X.dtype), facts=lambda path: {**fit.facts(path), "reference_gap": distance},
    )  # fmt: skip


def true_gap(gap: float, problem: Problem, l2: float) -> Case:
    """Return the case that counts the passes until the true gap is ``gap``; its time is beside that to 1e-2."""
    fit = Fit(problem, (l2,), {"gap": OPTIMUM_GAP, "max_iter": steps_to(gap, problem, l2)})
    loose = Fit(problem, (l2,), {"gap": 1e-2})
    return Case(
        group=_group(problem, l2), name=f"fit_path to a true gap of {gap:.0e}", call=fit,
        reference=Reference("fit_path, proven to 1e-02", loose), error=fit.distance, tolerance=gap,
        dtype=str(problem.X.dtype), facts=fit.facts,
    )  # fmt: skip


def steps_to(gap: float, problem: Problem, l2: float) -> int:
    """Return the least number of steps after which the true gap is at most ``gap``."""
    low, high = 0, int(peers.our_path(problem, (l2,), gap=gap, max_iter=MOST_STEPS).n_iter[0])
    while low + 1 < high:  # low is too few, high is enough
        middle = (low + high) // 2
        fit = Fit(problem, (l2,), {"gap": OPTIMUM_GAP, "max_iter": middle})
        low, high = (low, middle) if fit.distance(fit()) <= gap else (middle, high)
    return high


def many_rates(gap: float, peer: str, problem: Problem, rates: Sequence[float]) -> Case:
    """Return the case of all rates in one batch, each proven to ``gap``, beside a peer one after another."""
    need(peer)
    answers = [peers.answer(peer, problem, l2) for l2 in rates]
    best = optima(problem, tuple(rates))
    fit = Fit(problem, tuple(rates), {"gap": gap})
    distance = max(a.objective / f - 1 for a, f in zip(answers, best, strict=True))

    def one_by_one() -> list[peers.Coefficients]:
        return [peers.SOLVERS[peer](problem, l2) for l2 in rates]

    return Case(
        group=f"{problem.name}, {len(rates)} rates", name=f"fit_path, one batch, each proven to {gap:.0e}", call=fit,
        reference=Reference(f"{peer}, one after another", one_by_one, sum(a.seconds for a in answers)),
        error=fit.distance, tolerance=gap, dtype=str(problem.X.dtype),
        facts=lambda path: {**fit.facts(path), "reference_gap": distance},
    )  # fmt: skip


def need(peer: str) -> None:
    """Skip if the library of a peer is not installed."""
    if not peers.is_installed(peer):
        pytest.skip(f"{peer} is not installed; pip install 'papershell[bench,torch]' adds it")


def _group(problem: Problem, l2: float) -> str:
    return f"{problem.name}, l2 = {l2:g}"


def _reference(peer: str, problem: Problem, l2: float, budget_s: float) -> Reference:
    """A peer, with the seconds of its one run if that took longer than the budget."""
    seconds = peers.answer(peer, problem, l2).seconds
    return Reference(peer, partial(peers.SOLVERS[peer], problem, l2), seconds if seconds > budget_s else None)
