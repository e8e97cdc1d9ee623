"""PyTorch on CUDA: bytes times weights by the matrix units, floats by BLAS. Not yet run on a GPU.

A byte is exact in bfloat16, and a weight is the sum of a few bfloat16 numbers of 8 bits each: three make
float32. So X times W takes one product with the pieces of W side by side, and no other rounding than that of
the float32 sums. The residuals of X' times D are split in the same way. Reference for such products: Henry,
Tang, Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations"
(2019), section 3; here one operand is exact, which saves its splitting.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import torch

from papershell.kernels.backends import array_namespace, has_bfloat16_products
from papershell.kernels.logreg.on_cuda import SOURCE, CudaEngine, Kernel
from papershell.kernels.logreg.on_torch import shared
from papershell.kernels.logreg.products import FLOAT64, Grade, Samples


def split_bfloat16(W: torch.Tensor, pieces: int) -> torch.Tensor:
    """Return ``pieces`` bfloat16 matrices (C, P), below each other, whose sum is ``W`` (C, P) to 8 bits each."""
    parts, rest = [], W
    for _ in range(pieces):
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
        assert all(isinstance(a, int) or a.is_contiguous() for a in arguments)
        kernel(grid=grid, block=block, args=arguments)

    return launch


class FloatsEngine(CudaEngine):
    """Float32 products, and float64 ones at the end."""

    def __init__(self, samples: Samples, device: str = "cuda"):
        super().__init__(samples, array_namespace("torch"), device)

    def array(self, values):
        """See `FloatEngine.array`; host arrays may be read-only."""
        return super().array(shared(values) if isinstance(values, np.ndarray) else values)

    def to_host(self, values):
        """See `FloatEngine.to_host`; PyTorch copies from a device on request only."""
        return values.cpu().numpy()

    def inverse(self, matrix):
        """See `FloatEngine.inverse`; by Cholesky, in calls that take whole stacks and do not wait."""
        factor, _ = torch.linalg.cholesky_ex(matrix)
        unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
        root = torch.linalg.solve_triangular(factor, unit, upper=False)
        return root.mT @ root

    def kernel(self, name):
        """See `CudaEngine.kernel`."""
        return compiled(name, torch.cuda.current_device()) if self.X.is_cuda else None


class BytesEngine(FloatsEngine):
    """X in bfloat16, which holds bytes exactly, times pieces of weights; no float32 copy is ever made."""

    grades = (Grade(2, 1e-3, 1e-6), Grade(3, 1e-6, 1e-9), FLOAT64)
    projection = grades[0]

    def __init__(self, samples: Samples, device: str = "cuda"):
        super().__init__(samples, device)
        self.X = self.X.to(torch.bfloat16)

    def operand(self, W, grade):
        """See `FloatEngine.operand`."""
        return (
            super().operand(W, grade)
            if isinstance(grade.precision, str)
            else split_bfloat16(W, grade.precision)
        )

    def product(self, A, B):
        """See `FloatEngine.product`."""
        return bfloat16_product(A, B) if A.dtype is torch.bfloat16 else A @ B

    def residual_by_formula(self, Z, bias, index, shape, fold):
        """See `FloatEngine.residual`; as many pieces as there were of the weights."""
        pieces = Z.shape[1] // bias.shape[0]
        if pieces == 1:
            return super().residual_by_formula(Z, bias, index, shape, fold)
        logits = self.join(Z.double(), bias.shape[0])
        loss, D, total = super().residual_by_formula(logits, bias, index, shape, fold)
        return loss, split_bfloat16(D.T, pieces).T, total


def Engine(samples: Samples, device: str = "cuda") -> CudaEngine:
    """Return the engine for these samples; other devices than CUDA, which have all it takes, are for tests."""
    pieces = samples.X.dtype == np.uint8 and (device != "cuda" or has_bfloat16_products())
    return BytesEngine(samples, device) if pieces else FloatsEngine(samples, device)
