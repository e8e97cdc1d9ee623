"""Byte order with NumPy: reversed in place, no second array."""

from __future__ import annotations

import numpy as np


def decode(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return big-endian elements as a native array of ``shape``, in the memory of ``data``.

    Parameters
    ----------
    data : (bytes,) uint8, aligned, owned by the result from here on.
    dtype : element type as on disk.
    shape : of the result; its size is that of ``data``.
    """
    values = data.view(dtype)
    if not dtype.isnative:
        values = values.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return values.reshape(shape)
