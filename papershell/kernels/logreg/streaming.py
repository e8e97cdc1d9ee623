"""Rows that the host keeps and that pass through a device in blocks, for an X larger than its memory.

The CUDA part has not yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from papershell.kernels.placement import shared_tensor


class Slot:
    """Room for one block: on the host pinned, so that it is copied while the device computes, and on the device."""

    def __init__(self, like: torch.Tensor, device: torch.device):
        self.host = (
            torch.empty(like.shape, dtype=like.dtype, pin_memory=True) if device.type == "cuda" else None
        )
        self.device = torch.empty(like.shape, dtype=like.dtype, device=device)
        self.ready: Any = torch.cuda.Event() if self.host is not None else None


class HostRows:
    """X (N, P) of the host, whose blocks ``X[first:last]`` are tensors of the device.

    There are two slots: while the device works on one block, the next of the same size is on its way to the other slot;
    after the last comes the first. A block is valid until the next one is asked for.

    Parameters
    ----------
    X : of the host, a memory map for example.
    device : a CUDA device; on the CPU, for tests, blocks are copied when they are asked for.
    """

    def __init__(self, X: np.ndarray, device: str):
        self.rows, self.device, self.shape = shared_tensor(X), torch.device(device), X.shape
        self.is_cuda = self.device.type == "cuda"
        self.stream: Any = torch.cuda.Stream(self.device) if self.is_cuda else None
        self.slots: list[Slot | None] = [None, None]
        self.coming: tuple[slice, Slot] | None = None
        self.turn = 0

    def __getitem__(self, rows: slice) -> torch.Tensor:
        """Return a block (n, P) on the device, and send for the next."""
        first, last, _ = rows.indices(self.shape[0])
        rows, n = slice(first, last), last - first
        slot = self.coming[1] if self.coming and self.coming[0] == rows else self._send(rows)
        if self.is_cuda:
            torch.cuda.current_stream(self.device).wait_event(slot.ready)
        start = last if last < self.shape[0] else 0
        following = slice(start, min(start + n, self.shape[0]))
        self.coming = following, self._send(following)
        return slot.device[:n]

    def _send(self, rows: slice) -> Slot:
        """Start the copy of a block to the slot that was used before the last one."""
        slot, part = self.slots[self.turn], self.rows[rows]
        if slot is None or len(slot.device) < len(part):
            slot = self.slots[self.turn] = Slot(part, self.device)
        elif self.is_cuda:
            slot.ready.synchronize()  # the pinned block has left
        self.turn = 1 - self.turn
        if slot.host is None:
            slot.device[: len(part)].copy_(part)
            return slot
        slot.host[: len(part)].copy_(part)
        self.stream.wait_stream(torch.cuda.current_stream(self.device))  # which may still read the slot
        with torch.cuda.stream(self.stream):
            slot.device[: len(part)].copy_(slot.host[: len(part)], non_blocking=True)
            slot.ready.record(self.stream)
        return slot
