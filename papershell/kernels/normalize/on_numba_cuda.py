"""Normalization of bytes with numba-cuda: the answers of each channel, looked up. Not yet run on a GPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import ArrayLike

from papershell.kernels.backends import BackendError
from papershell.kernels.normalize.contract import check_out, constants, dtype_name, real_array, tables

OUTPUT_TYPES = ("float32", "float16", "float64")


def normalize(images: Any, *, scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, out: Any) -> Any:
    """Return ``(images * scale - mean) / std`` for bytes; see `papershell.kernels.normalize`.

    ``images`` and ``out`` are contiguous device arrays; a NumPy array of images is uploaded, as it is.

    Raises
    ------
    BackendError
        The images are not bytes, or the constants vary along several axes.
    """
    name = dtype_name(dtype, OUTPUT_TYPES, "numba-cuda")
    on_device = hasattr(images, "__cuda_array_interface__")
    pixels = (
        cuda.as_cuda_array(images) if on_device else cuda.to_device(np.ascontiguousarray(real_array(images)))
    )
    table = tables(constants(scale, mean, std, name, pixels.shape), pixels.shape)
    if pixels.dtype != np.uint8 or table is None:
        raise BackendError(
            "back end 'numba-cuda' normalizes uint8 images with constants along one axis; use cupy"
        )
    if out is None:
        out = cuda.device_array(pixels.shape, name)
    else:
        check_out(out, object, pixels.shape, name)
    size, bits = math.prod(pixels.shape), f"u{out.dtype.itemsize}"
    if size:
        values = cuda.to_device(table.values.view(bits))
        _look_up.forall(size)(pixels.reshape(size), values, table.run, out.reshape(size).view(bits))
    return out


@cuda.jit
def _look_up(pixels, values, run, out):
    index = cuda.grid(1)
    if index < out.size:
        out[index] = values[index // run % values.shape[0], pixels[index]]
