"""Normalization with NumPy: the formula, one operation after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from papershell.kernels.normalize.contract import check_out, constants, dtype_name, real_array, steps

_BLOCK_PIXELS = 1 << 16  # 2^15 and 2^17 take as long, 2^14 a fifth longer because of the calls
OUTPUT_TYPES = ("float32", "float16", "float64")


def normalize(
    images: Any, *, scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, out: Any
) -> np.ndarray:
    """Return ``(images * scale - mean) / std``; see `papershell.kernels.normalize`. The input is any real array."""
    images = real_array(images)
    dtype = dtype_name(dtype, OUTPUT_TYPES, "numpy")
    given = constants(scale, mean, std, dtype, images.shape)
    if out is None:
        out = np.empty(images.shape, dtype)
    else:
        check_out(out, np.ndarray, images.shape, dtype)
    numbers = all(value.size == 1 for value in given)
    shaped = ((name, value.reshape(()) if numbers else value) for name, value in steps(given))
    operations = [(getattr(np, name), value) for name, value in shaped]
    for source, target in _blocks(images, out) if numbers else [(images, out)]:
        # A cast and a product take less time than a product that casts.
        np.copyto(target, source, casting="unsafe")
        for operation, value in operations:
            operation(target, value, out=target)
    return out


def _blocks(images: np.ndarray, out: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield stretches that a core's second cache keeps from one operation to the next, of arrays in one piece."""
    if not (images.flags.c_contiguous and out.flags.c_contiguous) or np.may_share_memory(images, out):
        yield images, out
        return
    source, target = images.reshape(-1), out.reshape(-1)
    for first in range(0, out.size, _BLOCK_PIXELS):
        yield source[first : first + _BLOCK_PIXELS], target[first : first + _BLOCK_PIXELS]
