"""Which back end and which route a problem takes: a model of the cost, in multiplications and bytes.

The rates are those of one core of a processor with AVX-512 (2 of them measured together), rounded: they need only be
right among each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from papershell.kernels import backends
from papershell.kernels.logreg.preconditioner import Settings

FLOAT64, FLOAT32, BYTES = (
    15e9,
    50e9,
    250e9,
)  # multiplications a second and core: float64, float32, exact bytes
LOGIT_S, SMALL_PASS_S = 3e-9, 2e-4  # softmax and loss of a logit; what a pass costs beside its work
LOADING_S = {
    "numpy": 0.0,
    "numba": 0.4,
    "torch": 1.5,
}  # of the library, if this process has not loaded it yet
SLICES, PASSES = 2.5, 30  # of weights and residuals in an average pass; passes of an average fit


def seconds(N: int, P: int, K: int, problems: int, dtype: Any) -> dict[str, float]:
    """Return what a fit takes on each back end of the CPU that is present, about.

    Parameters
    ----------
    N, P, K : samples, features, classes.
    problems : rates times folds.
    dtype : of X.
    """
    columns, cores = problems * (1 if K == 2 else K), backends.cpu_count()
    products, logits = 2.0 * N * P * columns, N * columns * LOGIT_S
    found = {
        "numpy": products / FLOAT64 + 20 * logits,
        "numba": (products / FLOAT32 + 2 * logits) / cores,
    }
    exact = np.dtype(dtype) == np.uint8 and backends.has_matrix_units() and backends.is_available("torch")
    if exact:
        found["torch"] = (products * SLICES / BYTES + 2 * logits) / cores
    return {name: PASSES * (each + SMALL_PASS_S) + LOADING_S[name] for name, each in found.items()}


def choose_backend(N: int, P: int, K: int, problems: int, dtype: Any) -> str:
    """Return the fastest back end present for data of this size."""
    P = min(N, P) if np.dtype(dtype) != np.uint8 else P
    if N * P * K * problems >= LARGE_ON_DEVICE and backends.has_cuda():
        return "torch" if backends.torch_has_cuda() else "cupy"
    each = seconds(N, P, K, problems, dtype)
    return min(each, key=each.__getitem__)


LARGE_ON_DEVICE = 100_000_000  # multiplications a pass from which a GPU repays the copy of X


def explain(N: int, P: int, K: int, R: int, dtype: Any = "float32") -> list[str]:
    """Return sentences that say how `fit_path` solves R problems of N samples, P features and K classes, and why."""
    sizes, rows = Settings(), P > N and N * N * P <= 4e11
    width = N if rows else P
    columns = 1 if K == 2 else K
    Q = min(sizes.leading, width)
    dense = columns * (Q + 1) <= sizes.largest_dense
    lines = [
        f"{R} problems of {N} samples, {P} features ({np.dtype(dtype)}) and {K} classes",
        f"coordinates: {f'{N} combinations of the rows' if rows else f'{P} features'}",
        f"columns of logits a problem: {columns}",
        f"preconditioner: {Q} leading coordinates and the intercept, "
        + ("all classes coupled" if dense else "each class by itself"),
    ]
    chosen = choose_backend(N, P, K, R, dtype)
    for name, each in sorted(seconds(N, width, K, R, dtype).items(), key=lambda pair: pair[1]):
        lines.append(f"{name}: about {each:.2g} s{' (chosen by auto)' if name == chosen else ''}")
    return lines
