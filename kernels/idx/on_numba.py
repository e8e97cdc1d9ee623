"""Byte order on all CPU cores."""

from __future__ import annotations

import numba
import numpy as np


def decode(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return big-endian elements as a native array of ``shape``, in the memory of ``data``.

    Parameters
    ----------
    data : (bytes,) uint8, aligned, owned by the result from here on.
    dtype : element type as on disk.
    shape : of the result; its size is that of ``data``.
    """
    if not dtype.isnative:
        _reverse_bytes(data.view(f"u{dtype.itemsize}"))
    return data.view(dtype.newbyteorder("=")).reshape(shape)


@numba.njit(parallel=True, cache=True)
def _reverse_bytes(words: np.ndarray) -> None:
    for index in numba.prange(words.size):
        word, reverse = np.uint64(words[index]), np.uint64(0)
        for _ in range(words.itemsize):  # LLVM recognizes one bswap
            reverse = (reverse << np.uint64(8)) | (word & np.uint64(255))
            word >>= np.uint64(8)
        words[index] = reverse
