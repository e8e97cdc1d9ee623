"""PyTorch on CUDA: bytes times weights by the matrix units, floats by BLAS. Not yet run on a GPU.

A byte is exact in bfloat16, and a weight is the sum of a few bfloat16 numbers of 8 bits each: three make
float32. So X times W takes one product with the slices of W side by side, and no other rounding than that of
the float32 sums. The residuals of X' times D are split in the same way. Reference for such products: Henry,
Tang, Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations"
(2019), section 3; here one operand is exact, which saves its splitting.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import torch

from papershell.kernels import arrays
from papershell.kernels.backends import array_namespace, free_device_bytes, has_bfloat16_products
from papershell.kernels.logreg.engine import FLOAT64, Precision
from papershell.kernels.logreg.on_cuda import SOURCE, CudaEngine, Kernel
from papershell.kernels.logreg.problem import Samples
from papershell.kernels.logreg.streaming import HostRows
from papershell.kernels.placement import shared_tensor

LARGEST_SHARE = 0.5  # of a device's free memory that X may take: logits and converted blocks need the rest


def split_bfloat16(W: torch.Tensor, slices: int) -> torch.Tensor:
    """Return ``slices`` bfloat16 matrices (C, P), below each other, whose sum is ``W`` (C, P) to 8 bits each."""
    parts, rest = [], W
    for _ in range(slices):
        parts.append(rest.to(torch.bfloat16))
        rest = rest - parts[-1].to(W.dtype)
    return torch.cat(parts)


def bfloat16_product(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Return A @ B of bfloat16 matrices, added up in float32."""
    if A.is_cpu:
        return A.float() @ B.float()  # the same terms, exact there too
    return torch.mm(A, B, out_dtype=torch.float32)


@cache
def compiled(name: str, device: int) -> Kernel | None:
    """Return the kernel ``name`` for the current ``device``; warn and return None where PyTorch cannot compile it."""
    try:
        kernel = torch.cuda._compile_kernel(SOURCE, name)
    except (AttributeError, OSError, RuntimeError) as error:
        warnings.warn(
            f"PyTorch cannot compile the fused residual, so that it takes several passes: {error}",
            stacklevel=2,
        )
        return None

    def launch(grid, block, arguments):
        assert all(isinstance(a, (int, float)) or a.is_contiguous() for a in arguments)
        kernel(grid=grid, block=block, args=arguments)

    return launch


def is_large(size_bytes: int, device: str) -> bool:
    """Return whether an X would take more than `LARGEST_SHARE` of the free memory of a CUDA device."""
    return device.startswith("cuda") and size_bytes > LARGEST_SHARE * free_device_bytes(device)


class FloatsEngine(CudaEngine):
    """Float32 products, and float64 ones at the end; see `features` for an X larger than the device."""

    def __init__(self, samples: Samples, device: str = "cuda"):
        super().__init__(samples, array_namespace("torch"), device)

    def features(self, X):
        """See `Engine.features`; block by block if the device has too little room."""
        device = self.on_device["device"]
        return (
            HostRows(X, device) if isinstance(X, np.ndarray) and is_large(X.nbytes, device) else self.array(X)
        )

    def array(self, values):
        """See `Engine.array`; host arrays may be read-only."""
        return super().array(shared_tensor(values) if isinstance(values, np.ndarray) else values)

    def to_host(self, values):
        """See `Engine.to_host`; PyTorch copies from a device on request only."""
        return values.cpu().numpy()

    def kernel(self, name):
        """See `CudaEngine.kernel`."""
        return compiled(name, torch.cuda.current_device()) if self.X.is_cuda else None


class BytesEngine(FloatsEngine):
    """X in bfloat16, which holds bytes exactly, times slices of weights; no float32 copy is ever made."""

    precisions = (Precision(2, "float32", 1e-3, 1e-6), Precision(3, "float32", 1e-6, 1e-9), FLOAT64)

    def operand(self, W, precision):
        """See `Engine.operand`."""
        slices = self.precisions[precision].product
        return super().operand(W, precision) if isinstance(slices, str) else split_bfloat16(W, slices)

    def matmul(self, A, B):
        """See `Engine.matmul`."""
        return bfloat16_product(A, B) if A.dtype is torch.bfloat16 else A @ B


def Engine(samples: Samples, device: str = "cuda") -> CudaEngine:
    """Return the engine for these samples; other devices than CUDA, which have all it takes, are for tests."""
    if not isinstance(samples.X, np.ndarray):
        device = str(samples.X.device)
    exact = arrays.kind(samples.X) in ("uint8", "int8", "bfloat16") and samples.center is None
    sliced = exact and (device != "cuda" or has_bfloat16_products())
    return BytesEngine(samples, device) if sliced else FloatsEngine(samples, device)
