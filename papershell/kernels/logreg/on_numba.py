"""Numba: exact products of bytes on a CPU with VNNI, else products of floats by BLAS."""

from __future__ import annotations

import numpy as np

from papershell.kernels.logreg import engine, on_bytes, on_cpu, vnni
from papershell.kernels.logreg.problem import Samples


def Engine(samples: Samples) -> engine.Engine:
    """Return the engine for this machine and these samples."""
    if on_bytes.can_take(samples, np.uint8) and vnni.is_available():
        return on_bytes.Engine(samples, vnni)
    return on_cpu.Engine(samples)
