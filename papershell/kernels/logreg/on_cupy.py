"""CUDA engine through CuPy: float32 products, float64 at the end, the fused residual. Not yet run on a GPU."""

from __future__ import annotations

from functools import cache

import cupy
import numpy as np

from papershell.kernels import arrays
from papershell.kernels.backends import array_namespace
from papershell.kernels.logreg.on_cuda import SOURCE, CudaEngine, Kernel
from papershell.kernels.logreg.problem import Samples


@cache
def compiled(name: str) -> Kernel:
    """Return the kernel ``name``; it is compiled at its first launch."""
    kernel = cupy.RawKernel(SOURCE, name)

    def launch(grid, block, arguments):
        assert all(isinstance(a, (int, float)) or a.flags.c_contiguous for a in arguments)
        kernel(
            grid,
            block,
            tuple(
                np.int32(a) if isinstance(a, int) else np.float64(a) if isinstance(a, float) else a
                for a in arguments
            ),
        )

    return launch


def as_c(argument):
    """Return a number as the type that the kernel takes, and an array as it is."""
    if isinstance(argument, int):
        return np.int32(argument)
    return np.float64(argument) if isinstance(argument, float) else argument


class Engine(CudaEngine):
    """Products by cuBLAS on the current device."""

    def __init__(self, samples: Samples):
        if arrays.kind(samples.X) == "bfloat16":
            raise ValueError("CuPy has no bfloat16; choose backend='torch', or pass X as float16 or float32")
        super().__init__(samples, array_namespace("cupy"))

    def to_host(self, values):
        """See `Engine.to_host`; CuPy copies on request only."""
        return values.get()

    def kernel(self, name):
        """See `CudaEngine.kernel`."""
        return compiled(name)
