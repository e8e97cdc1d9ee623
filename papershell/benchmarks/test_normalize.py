"""Bytes to normalized numbers: MNIST whole, which no cache holds, and a thousand images, which one does.

Expected beforehand: all is bound by memory, so the time follows the bytes written, and ``out=`` saves the cost of
allocating, for which the kernel must clear each page first. Stores past the caches, which spare the read of every line
that is overwritten, won twice only into an ``out=`` that was written before, and were removed. Bytes count once read
(1 a pixel) and once written (4 or 8), and so does the ceiling, into new pages unless there is an ``out=``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks.case import Case, Work, against
from papershell.benchmarks.measure import Measure, device_of, need
from papershell.kernels import normalize
from papershell.kernels.backends import torch_has_cuda

REFERENCE = "X / 255.0"
BACKENDS = ("numpy", "numba", "torch", "cupy", "numba-cuda")
PEERS = ("X.astype / 255", "ToTensor, as in torchvision")


def torchvision_style(X: np.ndarray, dtype: str) -> Callable[[], Any]:
    """The formula of torchvision's ToTensor, for all images at once."""
    import torch

    tensor = torch.from_numpy(X)
    return lambda: tensor.to(getattr(torch, dtype)).div(255)


def resident(X: np.ndarray, backend: str) -> Any:
    """The pixels in the memory of the back end's device."""
    if backend == "cupy":
        import cupy

        return cupy.asarray(X)
    if backend == "numba-cuda":
        from numba import cuda

        return cuda.to_device(X)
    if backend == "torch":
        import torch

        return torch.from_numpy(X).to("cuda" if torch_has_cuda() else "cpu")
    return X


@pytest.mark.parametrize("rows", [1_000, 60_000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "case", [REFERENCE, *PEERS, *BACKENDS, *(f"{name}, out=" for name in ("numpy", "numba"))]
)
def test_normalize(measure: Measure, images: np.ndarray, case: str, dtype: str, rows: int) -> None:
    X = images[:rows]
    backend = case.removesuffix(", out=") if case.startswith(BACKENDS) else ""
    need("torch" if case in PEERS[1:] else backend or "numpy")
    calls: dict[str, Callable[[], Any]] = {REFERENCE: lambda: X / 255.0}
    if case == PEERS[0]:
        calls[case] = lambda: X.astype(dtype) / np.dtype(dtype).type(255)
    elif case == PEERS[1]:
        calls[case] = torchvision_style(X, dtype)
    elif backend:
        pixels, out = resident(X, backend), np.ones(X.shape, dtype) if "out=" in case else None
        calls[case] = lambda: normalize(pixels, dtype=dtype, out=out, backend=backend)
    written = "float64" if case == REFERENCE else dtype
    width, memory = np.dtype(written).itemsize, "DRAM" if "out=" in case else "new pages"
    work = Work(X.size * (1 + width), X.size, f"widen {width}, {memory}" if rows > 10_000 else None)
    measure(
        Case.among(
            calls, case, group=f"normalize {rows:,} images, {dtype}", error=against(X / 255.0), work=work,
            tolerance=2 * float(np.finfo(written).eps), dtype=written, backend=backend, device=device_of(backend),
        )
    )  # fmt: skip
