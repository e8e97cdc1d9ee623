"""The rates of the solver's cost model, measured here: CPU time of passes over X, for one core.

``python -m papershell.benchmarks.solver_rates`` prints them beside those that `papershell.kernels.logreg.cost` states.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from papershell.kernels import backends
from papershell.kernels.logreg.cost import Rate, installed, rate_of
from papershell.kernels.logreg.problem import Problem, Samples

SHAPES = (
    (8192, 784, 3),
    (2048, 4096, 40),
    (50_000, 3, 10),
)  # N, P, K: entries, products and logits weigh most


def measure(name: str, dtype: Any) -> Rate:
    """Return the rates of a back end on this machine, from the CPU time of passes over three shapes."""
    parts = [[N * P, 2.0 * N * P * K, N * K] for N, P, K in SHAPES]
    return Rate(*np.linalg.solve(parts, [measured_pass_s(name, dtype, *shape) for shape in SHAPES]))


def measured_pass_s(name: str, dtype: Any, N: int, P: int, K: int, repeats: int = 9) -> float:
    """Return the median CPU seconds of a pass: products, two trials of the length, residuals."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (N, P)).astype(dtype), np.arange(N) % K
    engine = backends.implementation("logreg", name).Engine(
        Samples(X, y, np.ones((1, N)), K, 1 / 255, fit_intercept=True)
    )
    theta = engine.array(rng.normal(size=(1, K, P + 1)) / P**0.5)
    precision, taken = max(0, len(engine.precisions) - 2), []
    engine.work_on(0, Problem(0, None, np.ones(P + 1), np.full(K, N / K), 1.0, 1.0))
    with engine.limits():
        engine.set_logits([0], theta, precision)
        for _ in range(repeats + 1):
            start = time.process_time()
            engine.set_direction([0], theta, precision)
            for length in (1.0, 1.5):
                engine.slopes([0], np.array([length]))
            engine.gradient([0], np.array([1e-3]), precision)
            taken.append(time.process_time() - start)
    return float(np.median(taken[1:]))


def main() -> None:
    """Print the rates measured here beside those that the model states, for one core."""
    print(f"{'back end':10s} {'X':8s} {'ns an entry of X':>24s} {'1e9 products/s':>20s} {'ns a logit':>20s}")
    for name, dtype in (("numpy", "float64"), ("numba", "float32"), ("numba", "uint8"), ("torch", "uint8")):
        if name not in installed(1, 1, "uint8"):
            continue
        stated, found = rate_of(name, *SHAPES[0][:2], dtype), measure(name, dtype)
        pairs = (
            (found.feature_s * 1e9, stated.feature_s * 1e9),
            (1e-9 / found.product_s, 1e-9 / stated.product_s),
            (found.logit_s * 1e9, stated.logit_s * 1e9),
        )
        columns = (f"{here:.3g} (stated {there:.3g})" for here, there in pairs)
        print(f"{name:10s} {dtype:8s} {' '.join(f'{column:>22s}' for column in columns)}")


if __name__ == "__main__":
    main()
