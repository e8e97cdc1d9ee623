"""Normalization with NumPy: the formula, one operation after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from papershell.kernels.normalize.contract import check_out, constants, dtype_name, real_array, steps

OUTPUT_TYPES = ("float32", "float16", "float64")


def normalize(
    images: Any, *, scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, out: Any
) -> np.ndarray:
    """Return ``(images * scale - mean) / std``; see `papershell.kernels.normalize`. The input is any real array."""
    images = real_array(images)
    name = dtype_name(dtype, OUTPUT_TYPES, "numpy")
    given = constants(scale, mean, std, name, images.shape)
    if out is None:
        out = np.empty(images.shape, name)
    else:
        check_out(out, np.ndarray, images.shape, name)
    np.copyto(out, images, casting="unsafe")  # a cast and a product take less time than a product that casts
    for operation, value in steps(given):
        getattr(np, operation)(out, value, out=out)
    return out
