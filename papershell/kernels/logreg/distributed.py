"""Rows split over the processes that torchrun started: each rank sums over its own, rank 0 iterates.

For every pass rank 0 sends the trial points to all, each rank computes losses and gradients of its
rows, and one reduction adds them up. Nobody but rank 0 decides anything, so that processors whose
rounding differs cannot fall out of step. The metric is made from few rows, by rank 0 alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import numpy as np

from papershell.kernels.logreg.losses import Array


@contextmanager
def rows_over_ranks() -> Iterator[int]:
    """Let every `fit_path` in this block split its rows over all processes that ``torchrun`` started.

    All of them must make the same calls with the same arguments. Each works on its own contiguous share
    of the rows, so that of a memory-mapped X (`kernels.map_idx`) it reads little else, and each gets the
    whole solution: a single process's to rounding. Callbacks are called on rank 0.

    Joins the process group if nobody has: NCCL, and one GPU a process, where PyTorch sees a GPU, else gloo.
    Without torchrun (no ``WORLD_SIZE``, or 1) nothing changes.

    Yields
    ------
    rank : of this process, from 0 on.

    Raises
    ------
    RuntimeError
        Inside `fit_path`: another rank failed.
    ValueError
        Inside `fit_path`: fewer rows than ranks, or ranks that do not fit the same thing in the same way.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    import torch
    import torch.distributed as dist

    joining = not dist.is_initialized()
    if joining:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    token = _ranks.set(Ranks())
    try:
        yield dist.get_rank()
    finally:
        _ranks.reset(token)
        if joining:
            dist.destroy_process_group()


def solve_on_ranks(make, samples, solve):
    ranks = _ranks.get()
    if ranks is None:
        engine = make(samples)
        with engine.limits():
            return solve(engine, engine)


_ranks: ContextVar[Any] = ContextVar("ranks", default=None)
