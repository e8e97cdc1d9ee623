"""Which back end and which route a problem takes: a model of the time of a fit, with rates that a command measures.

``python -m papershell.benchmarks.solver_rates`` measures the rates and prints them beside those stated below, which are
of a Zen 4 core with AVX-512 and VNNI. They need only be right among each other.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from papershell.kernels import backends
from papershell.kernels.logreg.engine import Engine
from papershell.kernels.logreg.newton import is_small, is_tall
from papershell.kernels.logreg.preconditioner import Settings
from papershell.kernels.logreg.problem import by_rows
from papershell.kernels.logreg.recomputed import FEWEST_ROWS, LOGITS_BYTES, logits_bytes
from papershell.kernels.logreg.solver import Settings as Iteration


@dataclass(frozen=True)
class Rate:
    """What a pass over X takes on one core.

    Attributes
    ----------
    feature_s : seconds for each of the N P entries of X, however many columns it is multiplied with.
    product_s : seconds for each of the N P K multiplications of either product.
    logit_s : seconds for each of the N K logits: softmax, loss, residual, two trials of the step's length.
    """

    feature_s: float
    product_s: float
    logit_s: float


WORDS = "numba, bytes"
RATES = {
    "numpy": Rate(2.2e-9, 1 / 28e9, 160e-9),
    "numba": Rate(1.6e-9, 1 / 43e9, 11e-9),  # 1.2e-9 in float32; the last passes are float64
    WORDS: Rate(0.15e-9, 1 / 80e9, 14e-9),  # likewise in two and three slices
    "torch": Rate(0.35e-9, 1 / 75e9, 13e-9),  # bytes; 1 / 58e9 in three slices, most passes take two
}
LOADING_S = {"numba": 0.4, "torch": 1.4}  # of the library and its kernels, the first time in a process
PREPARING_S = 1 / 40e9  # of a multiplication for eigenvectors and preconditioners
SMALL_PASS_S = 1e-3  # beside a pass's work, for each problem
PASSES, REFRESHES, NEWTON_PASSES = 30, 4, 6  # of an average fit at gap=1e-4; of one by Newton's method,
TALL_PASSES = 4  # also on many rows
LARGE_ON_DEVICE = 100_000_000  # multiplications a pass from which a GPU repays the copy of X


def seconds(N: int, P: int, K: int, problems: int, dtype: Any) -> dict[str, float]:
    """Return about how long a fit takes on each back end of the CPU that is installed, loading included.

    Parameters
    ----------
    N, P, K : samples, features, classes.
    problems : rates times folds.
    dtype : of X.
    """
    width = N if by_rows(N, P) else P
    passes, columns = NEWTON_PASSES if by_newton(N, width) else PASSES, 1 if K == 2 else K
    found = {}
    for name in installed(N, P, dtype):
        rate, cores = rate_of(name, N, P, dtype), 1 if name == "numpy" else backends.cpu_count()
        count = TALL_PASSES if name == "numba" and is_tall(N, width + 1, columns) else passes
        work = count * pass_s(rate, N, width, columns * problems) + preparing_s(N, P, columns, problems)
        found[name] = work / cores + count * problems * SMALL_PASS_S + loading_s(name)
    return found


def rate_of(name: str, N: int, P: int, dtype: Any) -> Rate:
    """Return the rates of a back end on such an X."""
    in_words = np.dtype(dtype) == np.uint8 and not by_rows(N, P) and backends.has_vnni()
    return RATES[WORDS] if name == "numba" and in_words else RATES[name]


def pass_s(rate: Rate, N: int, P: int, columns: int) -> float:
    """Return the seconds of a core that a pass takes."""
    return N * P * rate.feature_s + 2.0 * N * P * columns * rate.product_s + N * columns * rate.logit_s


def preparing_s(N: int, P: int, columns: int, problems: int) -> float:
    """Return the seconds of a core that coordinates and preconditioners take."""
    sizes, rows = Settings(), by_rows(N, P)
    width = N if rows else P
    Q, newton = min(sizes.leading, width) + 1, by_newton(N, width)
    basis = 2.0 * N * N * P + 10.0 * N**3 if rows else 0.0
    if not rows and sizes.leading < P <= sizes.largest_gram:
        basis = min(N, sizes.gram_rows) * P**2 + 10.0 * P**3
    if columns * Q <= sizes.largest_dense:
        drawn = min(N, drawn_rows(Q))
        refresh = drawn * Q**2 * max(1.0, columns * (columns - 1) / 2) + 0.5 * (columns * Q) ** 3
    else:
        refresh = columns * (min(N, 2 * sizes.drawn_for_class) * Q**2 + 0.5 * Q**3)
    return (basis + problems * (NEWTON_PASSES if newton else REFRESHES) * refresh) * PREPARING_S


def work_bytes(N: int, P: int, K: int, problems: int, dtype: Any, most_bytes: int = LOGITS_BYTES) -> int:
    """Return a bound of the memory that a fit on the CPU takes beside X; arguments as `seconds`.

    Labels and weights of one fold, at most ``most_bytes`` of logits and directions, the candidate rows and the
    coordinates made from them, the matrices of preconditioners, and converted blocks. With more features than rows X X'
    and what is made of it come to that.
    """
    sizes, cores, columns = Settings(), backends.cpu_count(), 1 if K == 2 else K
    by_row, itemsize = by_rows(N, P), np.dtype(dtype).itemsize
    width = N if by_row else P
    Q = min(sizes.leading, width) + 1
    candidates = min(N, max(sizes.candidate_rows, 2 * drawn_rows(Q)))
    coupled = columns * Q <= sizes.largest_dense
    matrix = 8 * ((columns * Q) ** 2 if coupled else columns * Q**2)
    kept = min(logits_bytes(N, columns) * problems, max(most_bytes, logits_bytes(FEWEST_ROWS, columns)))
    logits = kept + logits_bytes(candidates, columns) * problems + 48 * N
    basis = 8 * min(N, sizes.gram_rows) * P + 24 * min(width, sizes.largest_gram) ** 2
    blocks = cores * (2 * (Engine.converted_bytes + Engine.block_bytes) + 24 * P * columns * problems)
    history = 8 * 2 * Iteration().history * columns * (width + 1) * problems
    rows = candidates * ((8 if by_row else itemsize) * width + 8 * Q)
    matrices = matrix * (5 * cores + 2 * problems) + (48 * N * N if by_row else 0)
    return logits + rows + basis + blocks + history + matrices


def by_newton(N: int, width: int) -> bool:
    """Return whether the preconditioner holds all coordinates and rows."""
    sizes = Settings()
    return width <= sizes.leading and 2 * drawn_rows(width + 1) >= N


def drawn_rows(Q: int) -> int:
    """Return how many rows make the matrix of Q coordinates."""
    sizes = Settings()
    return max(sizes.drawn_rows, 16 * Q, sizes.drawn_products // Q**2)


def installed(N: int, P: int, dtype: Any) -> list[str]:
    """Return the back ends of the CPU for this data; asks for no library that is not loaded."""
    exact = np.dtype(dtype) in (np.uint8, np.int8) and not by_rows(N, P) and backends.has_matrix_units()
    return [
        name
        for name in ("numpy", "numba", *(["torch"] if exact else []))
        if importlib.util.find_spec(name) is not None
    ]


def loading_s(name: str) -> float:
    """Return how long this process takes to load a back end: nothing if it has done so."""
    kernels = LOADING_S["numba"] * ("papershell.kernels.logreg.on_cpu" not in sys.modules)
    library = LOADING_S["torch"] * ("torch" not in sys.modules)
    return {"numpy": 0.0, "numba": kernels, "torch": kernels + library}[name]


def choose_backend(N: int, P: int, K: int, problems: int, dtype: Any) -> str:
    """Return the fastest back end present for data of this size; loads no library for the question alone."""
    if N * P * K * problems >= LARGE_ON_DEVICE and backends.has_cuda():
        return "torch" if backends.torch_has_cuda() else "cupy"
    each = seconds(N, P, K, problems, dtype)
    return next(name for name in sorted(each, key=each.__getitem__) if backends.is_available(name))


def explain(N: int, P: int, K: int, R: int, dtype: Any = "float32") -> list[str]:
    """Return sentences that say how `fit_path` solves R problems of N samples, P features and K classes, and why."""
    rows = by_rows(N, P)
    width, columns = N if rows else P, 1 if K == 2 else K
    chosen = choose_backend(N, P, K, R, dtype)
    each = seconds(N, P, K, R, dtype)
    return [
        f"{R} problems of {N} samples, {P} features ({np.dtype(dtype)}) and {K} classes",
        f"coordinates: {f'{N} combinations of the rows' if rows else f'{P} features'}",
        f"columns of logits a problem: {columns}",
        _method(N, width, columns, chosen),
        *(
            f"{name}: about {each[name]:.2g} s{' (chosen by auto)' if name == chosen else ''}"
            for name in sorted(each, key=each.__getitem__)
        ),
        *(
            [f"{chosen}: on the GPU (chosen by auto)"]
            if chosen not in each or backends.torch_has_cuda()
            else []
        ),
    ]


def _method(N: int, width: int, columns: int, backend: str) -> str:
    unknowns = (width + 1) * columns
    if is_small(N, unknowns):
        return f"Newton's method with the whole Hessian of {unknowns} unknowns"
    if backend == "numba" and is_tall(N, width + 1, columns):
        return (
            f"Newton's method, one read of X a step; some of the rows make the Hessian of {unknowns} unknowns"
        )
    sizes = Settings()
    Q = min(sizes.leading, width)
    coupled = columns * (Q + 1) <= sizes.largest_dense
    form = "all classes coupled" if coupled else "each class by itself"
    if by_newton(N, width):
        form += ", from all rows: Newton's method" if coupled else ", from all rows"
    return f"preconditioner: {Q} leading coordinates and the intercept, {form}"
