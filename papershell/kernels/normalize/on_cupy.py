"""Normalization with CuPy: one kernel, one pass. Not yet run on a GPU."""

from __future__ import annotations

from typing import Any

import cupy
from numpy.typing import ArrayLike

from papershell.kernels.normalize.contract import check_out, constants, dtype_name, real_array

OUTPUT_TYPES = ("float32", "float16", "float64")

_normalize = cupy.ElementwiseKernel(
    "T pixel, O scale, O mean, O std",
    "O result",
    # Every step is stored in O, which rounds it: float16 would be carried on in float32.
    "O value = static_cast<O>(pixel); value = value * scale; value = value - mean; result = value / std;",
    "papershell_normalize",
    options=("--fmad=false",),  # a fused multiply-add rounds once, NumPy rounds twice
)


def normalize(
    images: Any, *, scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, out: Any
) -> cupy.ndarray:
    """Return ``(images * scale - mean) / std``; see `papershell.kernels.normalize`.

    A CuPy array stays on its device; a NumPy array is uploaded, as it is, to the current one.
    """
    name = dtype_name(dtype, OUTPUT_TYPES, "cupy")
    pixels = images if isinstance(images, cupy.ndarray) else cupy.asarray(real_array(images))
    given = constants(scale, mean, std, name, pixels.shape)
    with pixels.device:
        if out is None:
            out = cupy.empty(pixels.shape, name)
        else:
            check_out(out, cupy.ndarray, pixels.shape, name)
        return _normalize(pixels, *(cupy.asarray(value) for value in given), out)
