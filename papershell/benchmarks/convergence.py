"""The gap against seconds, for `fit_path` and every peer: ``python -m papershell.benchmarks.convergence [FILE]``.

Draws docs/convergence.png, or FILE: MNIST, and 50,000 x 768 floats in 100 classes, at l2 = 1. Each point is a call of
its own, with a looser or tighter setting: the gap of `fit_path`, the number of iterations of the others. A solver's
series ends when it stops by itself or at `MOST_S`. Takes about ten minutes; ``--share 0.02`` makes small problems
of both, to see that all works.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from papershell.benchmarks import peers, problems, solves
from papershell.benchmarks.peers import Coefficients
from papershell.benchmarks.problems import Problem
from papershell.kernels.files import replacing

L2 = 1.0
GAPS = np.logspace(-1, -7, 13)
ITERATIONS = (5, 10, 20, 40, 80, 160, 320, 640, 1000)
MOST_S = 60.0  # after a call that took longer, a solver's series ends
OURS = "papershell fit_path"
Points = list[tuple[float, float]]


def calls(problem: Problem) -> dict[str, Iterator[Callable[[], Coefficients]]]:
    """Return the calls of each solver, from the loosest setting on."""
    sklearn = partial(peers.sklearn_solver, problem, L2)
    intelex = partial(sklearn, library="sklearnex")
    return {
        OURS: (partial(_ours, problem, gap) for gap in GAPS),
        peers.LBFGS: (partial(sklearn, max_iter=n) for n in ITERATIONS),
        peers.NEWTON_CG: (partial(sklearn, solver="newton-cg", max_iter=n) for n in (2, 4, 8, 16, 32)),
        peers.INTELEX: (partial(intelex, max_iter=n) for n in ITERATIONS),
        peers.TORCH: (partial(peers.torch_solver, problem, L2, max_iter=n) for n in ITERATIONS),
    }


def _ours(problem: Problem, gap: float) -> Coefficients:
    return peers.coefficients(problem, peers.our_path(problem, [L2], gap=gap, max_iter=solves.MOST_STEPS))


def series(problem: Problem, tried: Iterator[Callable[[], Coefficients]]) -> Points:
    """Return seconds and true gap of one call after another, until a solver no longer gains or takes too long."""
    optimum = solves.optima(problem, (L2,))[0]
    points: Points = []
    for call in tried:
        found = peers.timed_answer(call, problem, L2)
        gap = max(found.objective / optimum - 1, solves.OPTIMUM_GAP)  # the optimum is known no better
        if points and gap >= points[-1][1]:
            break
        points.append((found.seconds, gap))
        if found.seconds > MOST_S:
            break
    return points


def draw(found: dict[str, dict[str, Points]], target: Path) -> None:
    """Draw the series of each problem, and write the picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (name, lines) in zip(np.ravel(figure.subplots(1, len(found))), found.items(), strict=True):
        for solver, points in lines.items():
            if points:
                width = 2.5 if solver == OURS else 1.2
                axes.loglog(
                    *zip(*points, strict=True),
                    "o-",
                    label=solver.partition("(")[0],
                    markersize=4,
                    linewidth=width,
                )
        axes.set(
            title=f"{name}, l2 = {L2:g}",
            xlabel="seconds of the call",
            ylabel="(objective - optimum) / optimum",
        )
        axes.grid(alpha=0.3)
    axes.legend()
    with replacing(target) as file:
        figure.savefig(file, format="png", dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", type=Path, default=Path("docs/convergence.png"), metavar="FILE")
    parser.add_argument("--share", type=float, default=1.0, help="of the problems' rows")
    chosen = parser.parse_args(arguments)
    drawn = (
        problems.mnist(chosen.share),
        problems.class_centres(50_000, 768, 100, 1.0, "far classes", chosen.share),
    )
    found: dict[str, Any] = {}
    for problem in drawn:
        print(problem.name, flush=True)
        found[problem.name] = {}
        for solver, tried in calls(problem).items():
            if solver == OURS or peers.is_installed(solver):
                if solver != OURS:
                    peers.load(solver)
                found[problem.name][solver] = points = series(problem, tried)
                print(f"  {solver:28s}" + "".join(f"  {s:.2f} s: {gap:.1e}" for s, gap in points), flush=True)
    draw(found, chosen.target)
    print(f"wrote {chosen.target}")


if __name__ == "__main__":
    main()
