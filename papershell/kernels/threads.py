"""Work shared among the CPU cores.

The threads are Python's own, around kernels that run without the GIL: unlike Numba's threading layers they
may be used from several threads at once and after a fork, as data loaders do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from threading import Lock, Thread, get_ident
from typing import Any

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


@cache
def pool() -> ThreadPoolExecutor:
    """Return the threads that every call in this process shares, one a core; a forked child gets its own."""
    return ThreadPoolExecutor(cpu_count(), thread_name_prefix="papershell")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)


class _Limit:
    """BLAS at one thread while anybody asks for it.

    The settings before come back with the last that leaves, and with the thread that set the limit: OpenBLAS lets
    other threads than that one raise its number in vain.
    """

    def __init__(self) -> None:
        self.lock, self.users, self.owner = Lock(), 0, 0
        self.limiter: Any = None

    def enter(self) -> None:
        """Limit BLAS if this is the first user."""
        with self.lock:
            if not self.users:
                self.limiter, self.owner = _blas_libraries().limit(limits=1), get_ident()
            self.users += 1

    def leave(self) -> None:
        """Restore BLAS if this is the last user, or the thread that limited it."""
        with self.lock:
            self.users -= 1
            if not self.users or self.owner == get_ident():
                self.limiter.restore_original_limits()


@cache
def _blas_libraries() -> Any:
    import scipy.linalg  # brings its own library, which must be found too
    from threadpoolctl import ThreadpoolController

    del scipy
    return ThreadpoolController().select(user_api="blas")


_limit = _Limit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread a call: callers bring their own threads, and small products lose on two.

    Calls in several threads may overlap; what was set before the first is set again in the end, also if one of
    them raised.
    """
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()
