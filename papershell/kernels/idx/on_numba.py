"""Byte order on all CPU cores."""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import intrinsic

from papershell.kernels.threads import on_all_cores


def decode(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return big-endian elements as a native array of ``shape``, in the memory of ``data``.

    Parameters are those of `papershell.kernels.idx.reference.decode`.
    """
    if not dtype.isnative:
        words = data.view(f"u{dtype.itemsize}")
        on_all_cores(lambda start, stop: _reverse_bytes(words[start:stop]), words)
    return data.view(dtype.newbyteorder("=")).reshape(shape)


@intrinsic
def _reversed(context, word):
    """LLVM's bswap, of which it makes vector shuffles; of shifts and masks it does not."""
    return word(word), lambda context, builder, signature, arguments: builder.bswap(arguments[0])


@numba.njit(nogil=True, cache=True)
def _reverse_bytes(words: np.ndarray) -> None:
    for index in range(words.size):
        words[index] = _reversed(words[index])
