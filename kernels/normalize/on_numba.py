"""Normalization on all CPU cores: one pass over the pixels, no temporary.

Bytes have 256 answers per channel, so NumPy computes those and the kernel looks them up: bit-identical
by construction, for float16 too, which Numba cannot compute with on a CPU but can move. The threads
are Python's own, around a kernel without the GIL: unlike Numba's threading layers they may be
used from several threads at once and after a fork, as data loaders do.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike

from kernels.backends import cpu_count
from kernels.normalize import reference
from kernels.normalize.contract import check_out, constants, dtype_name, tables

_BLOCK_PIXELS = 1 << 16


def normalize(
    images: ArrayLike, *, scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, out: Any
) -> np.ndarray:
    """Return ``(images * scale - mean) / std``; see `kernels.normalize`.

    Bytes go through the tables. Any other input type, constants that vary along several axes and an
    ``out`` that is not contiguous go through NumPy's formula, one cache-sized block of images at a
    time on each core.
    """
    images = np.asarray(images)
    name = dtype_name(dtype, reference.OUTPUT_TYPES, "numba")
    given = constants(scale, mean, std, name, images.shape)
    if out is None:
        out = np.empty(images.shape, name)
    check_out(out.shape, out.dtype.name, images.shape, name)
    table = tables(given, images.shape) if images.dtype == np.uint8 and out.flags.c_contiguous else None
    if table is None:
        return reference.normalize(images, scale=scale, mean=mean, std=std, dtype=name, out=out)
    pixels = np.ascontiguousarray(images).reshape(-1)
    bits = f"u{out.dtype.itemsize}"
    target, values = out.reshape(-1).view(bits), table.values.view(bits)
    workers = cpu_count()
    edges = [pixels.size * worker // workers for worker in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda a, b: look_up(pixels, values, table.run, target, a, b), edges, edges[1:]))
    return out


@numba.njit(nogil=True, cache=True)
def look_up(pixels: np.ndarray, values: np.ndarray, run: int, out: np.ndarray, start: int, stop: int) -> None:
    """Set ``out[i] = values[channel of i, pixels[i]]`` for i from ``start`` to ``stop``.

    Parameters
    ----------
    pixels : (pixels,) uint8.
    values : (channels, 256), the bit patterns of the answers.
    run : number of neighbouring pixels that share a channel.
    out : (pixels,) of the type of ``values``.
    """
    channels = values.shape[0]
    index = start
    while index < stop:
        table = values[index // run % channels]
        end = min(index - index % run + run, stop)
        for pixel in range(index, end):
            out[pixel] = table[pixels[pixel]]
        index = end
