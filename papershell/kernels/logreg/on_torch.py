"""PyTorch: exact products of bytes on a CPU with VNNI or AMX; CUDA is `papershell.kernels.logreg.on_torch_cuda`."""

from __future__ import annotations

import numpy as np

from papershell.kernels.backends import torch_has_cuda
from papershell.kernels.logreg import engine, on_bytes, on_numba, onednn
from papershell.kernels.logreg.problem import Samples


def Engine(samples: Samples) -> engine.Engine:
    """Return the engine for this machine and these samples."""
    if torch_has_cuda():
        from papershell.kernels.logreg import on_torch_cuda

        return on_torch_cuda.Engine(samples)
    if on_bytes.can_take(samples, np.uint8, np.int8) and onednn.is_available():
        return on_bytes.Engine(samples, onednn)
    return on_numba.Engine(samples)
