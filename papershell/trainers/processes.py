"""The processes that train one model together: this one alone, or those that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from papershell.kernels.backends import torch_has_cuda


class DeviceError(RuntimeError):
    """The device that was asked for is not here."""


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is, and the `papershell.kernels.cifar10_net` back end of its device."""

    rank: int
    count: int
    backend: str

    def average(self, values: Any) -> None:
        """Replace ``values`` (a tensor, or a NumPy array that torch can share) by their mean over all processes."""
        import torch

        shared = torch.as_tensor(values)
        if self.backend == "torch" and not shared.is_cuda:  # NCCL takes what lies on the GPU
            on_gpu = shared.cuda()
            torch.distributed.all_reduce(on_gpu)
            shared.copy_(on_gpu / self.count)
        else:
            torch.distributed.all_reduce(shared)
            shared /= self.count

    def share(self, order: np.ndarray, batch: int) -> np.ndarray:
        """Return what this process takes of ``order`` (S, n): its ``batch`` of every count * batch in turn."""
        if self.count == 1:
            return order
        rounds = order.shape[1] // (batch * self.count)
        turns = order[:, : rounds * batch * self.count].reshape(len(order), rounds, self.count, batch)
        return np.ascontiguousarray(turns[:, :, self.rank].reshape(len(order), -1))


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, or stay alone where it did not.

    Parameters
    ----------
    device : ``cpu``, ``cuda``, or ``auto``: cuda where there is such a device.

    Raises
    ------
    DeviceError
        ``cuda`` was asked for and there is none.
    """
    on_gpu = device != "cpu" and torch_has_cuda()
    if device == "cuda" and not on_gpu:
        raise DeviceError(
            "no CUDA device is here, and --device cuda asks for one; leave it out to use the CPU"
        )
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if on_gpu:
        import torch

        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if count == 1:
        yield Processes(rank, count, "torch" if on_gpu else "numba")
        return
    import torch.distributed

    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(rank, count, "torch" if on_gpu else "numba")
    finally:
        torch.distributed.destroy_process_group()
