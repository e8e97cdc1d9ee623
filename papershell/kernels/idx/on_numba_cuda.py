"""Byte order on the CUDA device, with numba-cuda. Not yet run on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda


def decode(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """Return big-endian elements as a native array of ``shape``, after one upload of ``data``.

    Parameters are those of `papershell.kernels.idx.reference.decode`.
    """
    raw = cuda.to_device(data)
    if not dtype.isnative and data.size:
        words = raw.view(f"u{dtype.itemsize}")
        _reverse_bytes.forall(words.size)(words)
    return raw.view(dtype.newbyteorder("=")).reshape(*shape)


@cuda.jit
def _reverse_bytes(words):
    index = cuda.grid(1)
    if index < words.size:
        word, reverse = np.uint64(words[index]), np.uint64(0)
        for _ in range(words.itemsize):
            reverse = (reverse << np.uint64(8)) | (word & np.uint64(255))
            word >>= np.uint64(8)
        words[index] = reverse
