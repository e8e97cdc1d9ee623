"""Byte order on all CPU cores."""

from __future__ import annotations

import numba
import numpy as np

from kernels.threads import on_all_cores


def decode(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return big-endian elements as a native array of ``shape``, in the memory of ``data``.

    Parameters are those of `kernels.idx.reference.decode`.
    """
    if not dtype.isnative:
        words = data.view(f"u{dtype.itemsize}")
        on_all_cores(lambda start, stop: _reverse_bytes(words[start:stop]), words)
    return data.view(dtype.newbyteorder("=")).reshape(shape)


@numba.njit(nogil=True, cache=True)
def _reverse_bytes(words: np.ndarray) -> None:
    for index in range(words.size):
        word, reverse = np.uint64(words[index]), np.uint64(0)
        for _ in range(words.itemsize):  # LLVM recognizes one bswap
            reverse = (reverse << np.uint64(8)) | (word & np.uint64(255))
            word >>= np.uint64(8)
        words[index] = reverse
