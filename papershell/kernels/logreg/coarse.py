"""A start from few rows: the optimum on the rows that make the preconditioner, if these are few of all.

It lies within the rows' statistical error of the optimum on all rows, so that few passes over those are left (Byrd,
Chin, Nocedal, Wu, "Sample size selection in optimization methods for machine learning", 2012). It pays where
the preconditioner costs little beside a pass: there the few rows take few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from papershell.kernels.logreg.engine import Engine
from papershell.kernels.logreg.preconditioner import Preconditioners
from papershell.kernels.logreg.problem import Identity, Problem, Samples
from papershell.kernels.logreg.solver import Minimizer, Settings

FEWEST_TIMES = 4  # as many rows as those of the preconditioner: fewer are not worth two solves
GAP, TOL, MOST_STEPS = 1e-4, 1e-5, 30


def coarse_starts(
    make: Callable[[Samples], Engine], preconditioners: Preconditioners, variables: Identity,
    problems: dict[int, Problem], starts: dict[int, np.ndarray], largest_row: float, settings: Settings,
) -> dict[int, np.ndarray]:  # fmt: skip
    """Return starts (K, P + 1) of ``problems``: optima on few rows, or ``starts`` if that cannot or need not be.

    Parameters
    ----------
    make : takes samples to an engine.
    preconditioners : hold the few rows, and how many each stands for.
    variables, largest_row, settings : of the `Minimizer`.
    """
    few, times = preconditioners.samples, preconditioners.times
    cheap = {n: p for n, p in problems.items() if preconditioners.passes(p) <= settings.cheap}
    if FEWEST_TIMES * len(times) > preconditioners.n_rows or not cheap:
        return starts
    scale = 1.0 / times.max()  # weights are at most 1
    samples = replace(few, weight=few.weight * (times * scale))
    engine = make(samples)
    minimizer = Minimizer(engine, engine, preconditioners, variables, largest_row, MOST_STEPS, settings)
    found = minimizer.minimize(
        {n: scaled(p, samples.weight[p.fold], few.y, scale) for n, p in cheap.items()},
        {n: starts[n] for n in cheap},
    )
    return starts | {n: result.theta for n, result in found.items() if result.status.reached}


def scaled(problem: Problem, weight: np.ndarray, y: np.ndarray, scale: float) -> Problem:
    """Return the problem on rows of ``weight`` (n,), its penalty as small as their weights are."""
    counts = np.bincount(problem.labels(y), weight, len(problem.counts))
    gap, tol = (GAP, np.inf) if problem.gap < np.inf else (np.inf, TOL)
    return replace(problem, ridge=problem.ridge * scale, counts=counts, gap=gap, tol=tol)
