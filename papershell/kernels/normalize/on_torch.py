"""Normalization with PyTorch, on the device of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from papershell.kernels.normalize.contract import check_out, constants, dtype_name, real_array, steps
from papershell.kernels.placement import place

OUTPUT_TYPES = ("float32", "float16", "bfloat16", "float64")


def normalize(
    images: Any, *, scale: ArrayLike, mean: ArrayLike, std: ArrayLike, dtype: Any, out: Any
) -> torch.Tensor:
    """Return ``(images * scale - mean) / std``; see `papershell.kernels.normalize`.

    A tensor stays on its device; a NumPy array goes to the CUDA device if there is one. For bfloat16 the
    constants are rounded to float32 first, as torch rounds every number.
    """
    name = dtype_name(dtype, OUTPUT_TYPES, "torch")
    pixels = images if isinstance(images, torch.Tensor) else _upload(images)
    given = constants(scale, mean, std, "float32" if name == "bfloat16" else name, tuple(pixels.shape))
    if out is None:
        out = torch.empty(pixels.shape, dtype=getattr(torch, name), device=pixels.device)
    else:
        check_out(out, torch.Tensor, tuple(pixels.shape), name)
    out.copy_(pixels)
    for operation, value in steps(given):
        # A tensor and not a number: by a number, torch divides as a product with its reciprocal on a CUDA device.
        getattr(out, f"{operation}_")(torch.tensor(value).to(out))
    return out


def _upload(images: ArrayLike) -> torch.Tensor:
    return place(np.require(real_array(images), requirements=["C", "W"]), "torch")
