"""Numba: exact products of bytes on a CPU with VNNI, else products of floats by BLAS."""

from __future__ import annotations

import numpy as np

from papershell.kernels.logreg import engine, on_bytes, on_cpu, vnni
from papershell.kernels.logreg.problem import Samples
from papershell.kernels.logreg.products import LARGEST_INTEGER_SUM


def Engine(samples: Samples) -> engine.Engine:
    """Return the engine for this machine and these samples."""
    is_exact = samples.X.dtype == np.uint8 and samples.X.shape[1] <= LARGEST_INTEGER_SUM
    return on_bytes.Engine(samples, vnni) if is_exact and vnni.is_available() else on_cpu.Engine(samples)
