"""Normalization with PyTorch, on the device of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from papershell.kernels.normalize.contract import (
    check_out,
    constants,
    dtype_name,
    numba_is_faster,
    real_array,
    steps,
)
from papershell.kernels.placement import place

_NUMPYS = {
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.float32, torch.float64,
}  # fmt: skip
OUTPUT_TYPES = ("float32", "float16", "bfloat16", "float64")


def normalize(
    images: Any, *, scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, out: Any
) -> torch.Tensor:
    """Return ``(images * scale - mean) / std``; see `papershell.kernels.normalize`.

    A tensor stays on its device, and a large one of the host is given to Numba's kernel; a NumPy array goes to the
    CUDA device if there is one. For bfloat16 the constants are rounded to float32 first, as torch rounds every number.
    """
    name = dtype_name(dtype, OUTPUT_TYPES, "torch")
    pixels = images if isinstance(images, torch.Tensor) else _upload(images)
    given = constants(scale, mean, std, "float32" if name == "bfloat16" else name, tuple(pixels.shape))
    if out is None:
        out = _empty(pixels, name)
    else:
        check_out(out, torch.Tensor, tuple(pixels.shape), name)
    if _numba_can(pixels, out) and numba_is_faster(pixels.numel()):
        from papershell.kernels.normalize import on_numba

        on_numba.normalize(pixels.numpy(), scale=scale, mean=mean, std=std, dtype=name, out=out.numpy())
        return out
    out.copy_(pixels)
    for operation, value in steps(given):
        # A tensor and not a number: by a number, torch divides as a product with its reciprocal on a CUDA device.
        getattr(out, f"{operation}_")(torch.tensor(value).to(out))
    return out


def _empty(pixels: torch.Tensor, name: str) -> torch.Tensor:
    """Return a tensor to fill; on the host NumPy's memory, which has large pages: a third of the faults' time."""
    if pixels.device.type != "cpu":
        return torch.empty(pixels.shape, dtype=getattr(torch, name), device=pixels.device)
    out = torch.from_numpy(np.empty(pixels.shape, "uint16" if name == "bfloat16" else name))
    return out.view(torch.bfloat16) if name == "bfloat16" else out


def _numba_can(*tensors: torch.Tensor) -> bool:
    """Whether these are plain arrays of the host, for which Numba's kernel is bit for bit this one."""
    return all(
        t.device.type == "cpu"
        and t.layout == torch.strided
        and t.dtype in _NUMPYS
        and not (t.requires_grad or t.is_neg())
        for t in tensors
    )


def _upload(images: ArrayLike) -> torch.Tensor:
    return place(np.require(real_array(images), requirements=["C", "W"]), "torch")
