"""scikit-learn's small data sets as they come, beside the fastest solver of each library that reaches 1e-8."""

from __future__ import annotations

from functools import cache, partial

import pytest
from threadpoolctl import threadpool_limits

from papershell.benchmarks import peers, problems, solves
from papershell.benchmarks.case import Case, Reference
from papershell.benchmarks.measure import Measure
from papershell.benchmarks.peers import Answer, Solver
from papershell.kernels import PathSolution

GAP = 1e-8
TOLERANCES = (1e-4, 1e-7, 1e-10)
LIBRARIES = {"scikit-learn": "sklearn", "scikit-learn-intelex": "sklearnex"}
SOLVERS = {"scikit-learn": ("lbfgs", "newton-cg", "newton-cholesky"), "scikit-learn-intelex": ("lbfgs",)}
Peer = tuple[str, Solver, Answer]


@cache
def candidates(name: str, library: str) -> list[Peer]:
    """Every solver of a library at every tolerance: its name, its call and its answer."""
    problem = problems.small(name)
    found: list[Peer] = []
    for solver in SOLVERS[library]:
        for tol in TOLERANCES:
            call = partial(
                peers.sklearn_solver, library=LIBRARIES[library], solver=solver, tol=tol, max_iter=10_000
            )
            found.append(
                (
                    f"{library} {solver}(tol={tol:g})",
                    call,
                    peers.timed_answer(partial(call, problem, 1.0), problem, 1.0),
                )
            )
    return found


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "digits")) for name in problems.SMALL]
)
def test_small(measure: Measure, name: str, library: str) -> None:
    solves.need({"scikit-learn": peers.LBFGS, "scikit-learn-intelex": peers.INTELEX}[library])
    problem = problems.small(name)
    fit = partial(peers.our_path, problem, (1.0,), gap=GAP, max_iter=5000)  # without a callback, as in use

    def objective(path: PathSolution) -> float:
        return float(peers.our_objectives(problem, (1.0,), path)[0])

    with threadpool_limits(1):  # the peers' best: products so small lose on two threads
        tried = candidates(name, library)
        best = min([a.objective for *_, a in tried] + [objective(fit())])
        good = [peer for peer in tried if peer[2].objective <= best * (1 + GAP)]
        if not good:
            pytest.skip(f"no solver of {library} comes within {GAP:g} of the optimum of {name}")
        title, call, answer = min(good, key=lambda peer: peer[2].seconds)
        measure(
            Case(
                group=f"{problem.name}, l2 = 1, to {GAP:.0e}", name=f"fit_path against the fastest of {library}",
                call=fit, reference=Reference(title, partial(call, problem, 1.0)), dtype="float64",
                error=lambda path: objective(path) / best - 1, tolerance=GAP,
                facts=lambda path: {"gap": solves.largest_gap(path), "reference_gap": answer.objective / best - 1},
            )
        )  # fmt: skip
