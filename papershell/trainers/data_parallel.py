"""Training one model on several processes: each takes its share of every batch, and gradients are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from papershell.kernels.backends import torch_has_cuda
from papershell.kernels.torchrun import joined


class DeviceError(RuntimeError):
    """The device that was asked for is not here."""


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together.

    Attributes
    ----------
    rank : of this process, from 0 on.
    count : of all processes; 1 if this one trains alone.
    backend : of the kernels on this process's device: ``numba`` on the CPU, ``torch`` on a GPU.
    """

    rank: int
    count: int
    backend: str

    def average(self, values: Any) -> None:
        """Replace ``values`` (a tensor, or a NumPy array that torch can share) by their mean over all processes."""
        import torch

        shared = torch.as_tensor(values)
        if self.backend == "torch" and not shared.is_cuda:  # NCCL takes only what lies on the GPU
            on_gpu = shared.cuda()
            torch.distributed.all_reduce(on_gpu)
            shared.copy_(on_gpu / self.count)
        else:
            torch.distributed.all_reduce(shared)
            shared /= self.count

    def share(self, order: np.ndarray, batch: int) -> np.ndarray:
        """Return the images of ``order`` (S, n) for this process: of every count * batch in turn, its ``batch``."""
        if self.count == 1:
            return order
        rounds = order.shape[1] // (batch * self.count)
        turns = order[:, : rounds * batch * self.count].reshape(len(order), rounds, self.count, batch)
        return np.ascontiguousarray(turns[:, :, self.rank].reshape(len(order), -1))


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, or stay alone without it.

    Parameters
    ----------
    device : ``cpu``, ``cuda``, or ``auto``: ``cuda`` if there is such a device.

    Raises
    ------
    DeviceError
        ``cuda`` was asked for and there is none.
    """
    if device == "cuda" and not torch_has_cuda():
        raise DeviceError(
            "no CUDA device is here, and --device cuda asks for one; leave it out to use the CPU"
        )
    with joined(device) as place:
        yield Processes(place.rank, place.count, "torch" if place.device == "cuda" else "numba")
