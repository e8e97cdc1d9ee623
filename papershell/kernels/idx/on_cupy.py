"""Byte order on the CUDA device, with CuPy. Not yet run on a GPU."""

from __future__ import annotations

import cupy
import numpy as np

_reverse_bytes = cupy.ElementwiseKernel(
    "T word",
    "T reverse",
    """
    T rest = word, result = 0;
    for (int byte = 0; byte < sizeof(T); ++byte, rest >>= 8) result = (result << 8) | (rest & 255);
    reverse = result;
    """,
    "papershell_reverse_bytes",
)


def decode(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> cupy.ndarray:
    """Return big-endian elements as a native array of ``shape``, after one upload of ``data``.

    Parameters are those of `papershell.kernels.idx.reference.decode`.
    """
    raw = cupy.asarray(data)
    if not dtype.isnative:
        words = raw.view(f"u{dtype.itemsize}")
        _reverse_bytes(words, words)
    return raw.view(dtype.newbyteorder("=")).reshape(shape)
