"""From an IDX file to normalized numbers, inflating on one core while another normalizes."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from papershell.kernels.idx import reference
from papershell.kernels.idx.header import Header
from papershell.kernels.idx.read import Source, allocate, opened, read_end, read_exactly
from papershell.kernels.normalize import fastest_backend, normalize

_BLOCK_BYTES = 1 << 19  # large enough to hand over seldom, small enough to stay in the caches
_BLOCKS = 4


def read_normalized(
    source: Source,
    *,
    scale: ArrayLike = 1 / 255,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    dtype: Any = "float32",
) -> np.ndarray:
    """Return ``normalize(read_idx(source), ...)``, sooner: the decoded bytes never exist as a whole.

    Parameters
    ----------
    source : as in `read_idx`.
    scale, mean, std : as in `normalize`, but broadcast against one item along the first axis (one image).
    dtype : ``float32``, ``float16`` or ``float64``.

    Returns
    -------
    array : bit-identical to the two steps, a NumPy array of the shape in the file.

    Raises
    ------
    IdxError, OSError
        As `read_idx`.
    ValueError, BackendError
        As `normalize`.
    """

    def work(block: np.ndarray, header: Header, target: np.ndarray) -> None:
        values = reference.decode(block, header.dtype, target.shape)
        normalize(values, scale=scale, mean=mean, std=std, dtype=dtype, out=target, backend=backend)

    waiting: deque[Future] = deque()
    with opened(source) as (header, reader, name), ThreadPoolExecutor(1) as other_core:
        out = allocate(header.shape, dtype, header, name)
        backend = fastest_backend(out)
        items = out.reshape(header.shape or (1,))
        item_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
        step = max(1, _BLOCK_BYTES // max(1, item_bytes))
        ring = cycle(np.empty((_BLOCKS, min(step, len(items)) * item_bytes), np.uint8))
        for start in range(0, len(items), step):
            target = items[start : start + step]
            if len(waiting) == _BLOCKS:
                waiting.popleft().result()  # frees the block that comes next
            block = next(ring)[: len(target) * item_bytes]
            read_exactly(reader, block, header, name, start * item_bytes)
            waiting.append(other_core.submit(work, block, header, target))
        read_end(reader, header, name)
        for future in waiting:
            future.result()
    return out
