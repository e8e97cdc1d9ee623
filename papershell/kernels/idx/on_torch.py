"""Byte order with PyTorch, on the CUDA device where there is one."""

from __future__ import annotations

import numpy as np
import torch

from papershell.kernels.idx import reference


def decode(data: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Return big-endian elements as a native tensor of ``shape``, after one upload of ``data``.

    Parameters are those of `papershell.kernels.idx.reference.decode`.
    """
    if not torch.cuda.is_available():
        return torch.from_numpy(reference.decode(data, dtype, shape))
    raw = torch.from_numpy(data).to("cuda")
    if not dtype.isnative:
        raw = raw.view(data.size // dtype.itemsize, dtype.itemsize).flip(1).view(-1)
    return raw.view(getattr(torch, dtype.name)).view(shape)
