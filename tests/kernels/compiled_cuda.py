"""The CUDA kernels without a GPU: their source built by the machine's C++ compiler, thread after thread."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from papershell.kernels.logreg.on_cuda import SOURCE

BEFORE = """
#include <math.h>
#define __global__
#define __device__
static struct { unsigned x; } blockIdx, threadIdx, blockDim;
"""
AFTER = """
typedef void Kernel(void *, const void *, double, void *, void *, const void *, const void *, int, int);

extern "C" void launch(Kernel *kernel, unsigned grid, unsigned block, void *Z, const void *D, double t, void *R,
                       void *loss, const void *y, const void *weight, int n, int K)
{
    blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)
            kernel(Z, D, t, R, loss, y, weight, n, K);
}
"""


def build(folder: Path) -> Callable[[str], Callable]:
    """Return what takes a kernel's name to a launcher like the engines' own, for tensors of the host."""
    if not (compiler := shutil.which("c++")):
        pytest.skip("no C++ compiler (c++) to build the CUDA source with")
    source, library = folder / "residual.cpp", folder / "residual.so"
    source.write_text(BEFORE + SOURCE + AFTER)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    loaded = ctypes.CDLL(str(library))

    def kernel(name: str) -> Callable:
        entry = ctypes.cast(getattr(loaded, name), ctypes.c_void_p)

        def launch(grid, block, arguments) -> None:
            assert all(isinstance(a, (int, float)) or a.is_contiguous() for a in arguments)
            given = [as_c(a) for a in arguments]
            loaded.launch(entry, grid[0], block[0], *given)

        return launch

    return kernel


def as_c(argument):
    """Return a number or a tensor as ctypes passes it."""
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    return argument if isinstance(argument, int) else ctypes.c_void_p(argument.data_ptr())
