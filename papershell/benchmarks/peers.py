"""How others do it: the walk-throughs' loader, scikit-learn, scikit-learn-intelex, PyTorch's L-BFGS; and `fit_path`.

Solvers take a problem and a rate and return coefficients as scikit-learn lays them out. They run as their users
run them: bytes become float64 pixels, floats stay as they are, warnings about iterations are part of the comparison.
"""

from __future__ import annotations

import gzip
import importlib.util
import struct
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from papershell.benchmarks import problems, referee
from papershell.benchmarks.problems import Problem
from papershell.kernels import PathSolution, fit_path

Coefficients = tuple[np.ndarray, np.ndarray]
Solver = Callable[[Problem, float], Coefficients]
LBFGS, NEWTON_CG = "scikit-learn lbfgs(max_iter=1000)", "scikit-learn newton-cg"
INTELEX, TORCH = "scikit-learn-intelex lbfgs", "PyTorch LBFGS, float32"
TORCH_ITERATIONS = 300


def load_data(path: Path) -> np.ndarray:
    """Return images as the walk-throughs load them: gzip, struct, frombuffer; (N, 784) uint8."""
    with gzip.open(path) as file:
        file.read(4)
        count, rows, columns = struct.unpack(">III", file.read(12))
        return np.frombuffer(file.read(count * rows * columns), np.uint8).reshape(count, rows * columns)


def sklearn_solver(problem: Problem, l2: float, library: str = "sklearn", **options: Any) -> Coefficients:
    """Fit LogisticRegression of ``sklearn`` or ``sklearnex``, imported from there: no global patching."""
    linear_model = importlib.import_module(f"{library}.linear_model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = linear_model.LogisticRegression(C=1 / l2, **options).fit(problem.as_floats(), problem.y)
    return model.coef_, model.intercept_


def torch_solver(
    problem: Problem, l2: float, device: str = "cpu", max_iter: int = TORCH_ITERATIONS
) -> Coefficients:
    """Fit with torch.optim.LBFGS and its strong-Wolfe search, on float32 tensors; two classes as two columns."""
    import torch

    K = problem.n_classes
    X = torch.as_tensor(problem.as_floats(), dtype=torch.float32, device=device)
    y, l2 = torch.as_tensor(problem.y, device=device), l2 * (2 if K == 2 else 1)  # w/2 and -w/2 for w
    model = torch.nn.Linear(X.shape[1], K, device=device)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=max_iter,
        history_size=10,
        tolerance_grad=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = l2 / 2 / len(X) * model.weight.square().sum()
        loss = torch.nn.functional.cross_entropy(model(X), y) + penalty
        loss.backward()
        return loss

    optimizer.step(closure)
    coef, intercept = (part.detach().double().cpu().numpy() for part in (model.weight, model.bias))
    return (coef[1:] - coef[:1], intercept[1:] - intercept[:1]) if K == 2 else (coef, intercept)


SOLVERS: dict[str, Solver] = {
    LBFGS: partial(sklearn_solver, max_iter=1000),
    NEWTON_CG: partial(sklearn_solver, solver="newton-cg"),
    INTELEX: partial(sklearn_solver, library="sklearnex", max_iter=1000),
    TORCH: torch_solver,
}
MODULES = {INTELEX: "sklearnex", TORCH: "torch"}


def is_installed(peer: str) -> bool:
    """Return whether the library of a peer is installed."""
    return importlib.util.find_spec(MODULES.get(peer, "sklearn")) is not None


@dataclass(frozen=True, eq=False)
class Answer:
    """A peer's answer: seconds of one call, coefficients, the objective in float64."""

    seconds: float
    coef: np.ndarray
    intercept: np.ndarray
    objective: float


@cache
def answer(peer: str, problem: Problem, l2: float) -> Answer:
    """Run a peer once, after a small fit that loads its library, and judge its answer."""
    load(peer)
    return timed_answer(partial(SOLVERS[peer], problem, l2), problem, l2)


def timed_answer(call: Callable[[], Coefficients], problem: Problem, l2: float) -> Answer:
    """Run a solver once and judge its answer."""
    begun = time.perf_counter()
    coef, intercept = call()
    seconds = time.perf_counter() - begun
    return Answer(seconds, coef, intercept, referee.objective(problem, coef, intercept, l2))


@cache
def load(peer: str) -> None:
    """Let a peer fit a small problem, so that its library is loaded and its threads run."""
    SOLVERS[peer](problems.small("iris"), 1.0)


def our_path(problem: Problem, rates: Sequence[float] | np.ndarray, **options: Any) -> PathSolution:
    """Fit all rates with `fit_path`; two classes as one logistic regression."""
    loss = "ovr" if problem.n_classes == 2 else "multinomial"
    return fit_path(problem.X, problem.y, rates, scale=problem.scale, **{"loss": loss, **options})


def coefficients(problem: Problem, path: PathSolution, index: int = 0) -> Coefficients:
    """Return a rate's coefficients as scikit-learn lays them out."""
    rows = slice(1 if problem.n_classes == 2 else 0, None)
    return path.coef[index][rows], path.intercept[index][rows]


def our_objectives(problem: Problem, rates: Sequence[float] | np.ndarray, path: PathSolution) -> np.ndarray:
    """Return the objective of each rate (R,) as the referee evaluates it."""
    return np.array(
        [referee.objective(problem, *coefficients(problem, path, i), l2) for i, l2 in enumerate(rates)]
    )
