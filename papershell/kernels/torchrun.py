"""The processes that ``torchrun`` started: who this one is, and the group in which they talk to each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from papershell.kernels.backends import torch_has_cuda


@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is.

    Attributes
    ----------
    rank : from 0 on, over all machines.
    count : of the processes.
    device : ``cuda`` if each process has a GPU of its own, else ``cpu``.
    """

    rank: int
    count: int
    device: str


@contextmanager
def joined(device: str = "auto") -> Iterator[Place]:
    """Join the processes that ``torchrun`` started, and leave them at the end of the block.

    Without torchrun (no ``WORLD_SIZE``, or 1) the process is alone and PyTorch is not loaded. A group that
    the caller has joined already is used and stays open.

    Parameters
    ----------
    device : ``cpu`` talks through gloo; ``cuda`` through NCCL, each process on the GPU of its ``LOCAL_RANK``;
        ``auto`` is ``cuda`` if PyTorch sees a GPU.

    Yields
    ------
    place : this process's.
    """
    on_gpu = device == "cuda" or (device == "auto" and torch_has_cuda())
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Place(0, 1, "cuda" if on_gpu else "cpu")
        return
    import torch
    import torch.distributed as dist

    joining = not dist.is_initialized()
    if joining:
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if on_gpu else "gloo")
    where = "cuda" if "nccl" in dist.get_backend() else "cpu"
    try:
        yield Place(dist.get_rank(), dist.get_world_size(), where)
    finally:
        if joining:
            dist.destroy_process_group()
