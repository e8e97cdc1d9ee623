"""Work shared among the CPU cores.

The threads are Python's own, around kernels that run without the GIL: unlike Numba's threading layers they
may be used from several threads at once and after a fork, as data loaders do.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from threading import Thread

import numpy as np

from papershell.kernels.backends import cpu_count

LINE_BYTES = 64  # of a cache, and of the widest vector register
_SHARE_ELEMENTS = 1 << 19  # fewer take less time than the start of a thread


def on_all_cores(kernel: Callable[[int, int], None], out: np.ndarray) -> None:
    """Call ``kernel(start, stop)`` once per core, for stretches that make up all elements of ``out``.

    Parameters
    ----------
    kernel : releases the GIL; sets its stretch of the flat ``out``, which is never empty.
    out : contiguous; all stretches but the last end where a cache line of it ends.
    """
    if not out.size:
        return
    line = LINE_BYTES // out.itemsize
    first = -out.ctypes.data % LINE_BYTES // out.itemsize
    workers = min(cpu_count(), 1 + out.size // _SHARE_ELEMENTS)
    inner = [first + out.size * worker // workers // line * line for worker in range(1, workers)]
    shares = list(pairwise([0, *(min(edge, out.size) for edge in inner), out.size]))
    threads = [Thread(target=kernel, args=share) for share in shares[1:]]
    for thread in threads:
        thread.start()
    kernel(*shares[0])
    for thread in threads:
        thread.join()
