"""What the CUDA engines of CuPy and PyTorch share: one fused pass over the logits. Not yet run on a GPU.

A thread takes one row of one problem along the direction and through softmax (or sigmoid), loss and residual, in
float64 as on the CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from papershell.kernels.logreg.engine import Engine

THREADS = 256  # of a block

# Reads no header, so that NVRTC needs no toolkit, and a C++ compiler takes it too.
SOURCE = r"""
template <typename T>
__device__ inline void residual(T *Z, const T *D, double t, T *R, double *loss, const long long *y,
                                const double *weight, int n, int K)
{
    const long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= n)
        return;
    T *z = Z + row * K, *r = R + row * K;
    const T *d = D + row * K;
    const int label = y[row];
    const double w = weight[row];
    if (t != 0.0)
        for (int k = 0; k < K; k++)
            z[k] = (T)(z[k] + t * d[k]);
    if (K == 1) {
        const double x = z[0], e = exp(-fabs(x));
        loss[row] = w * (fmax(x, 0.0) + log1p(e) - (label ? x : 0.0));
        r[0] = (T)(w * ((x >= 0.0 ? 1.0 : e) / (1.0 + e) - (label ? 1.0 : 0.0)));
        return;
    }
    double top = z[0], total = 0.0;
    for (int k = 1; k < K; k++)
        top = fmax(top, (double)z[k]);
    for (int k = 0; k < K; k++)
        total += exp(z[k] - top);
    for (int k = 0; k < K; k++)
        r[k] = (T)(w * (exp(z[k] - top) / total - (k == label)));
    loss[row] = w * (log(total) + top - z[label]);
}

#define KERNEL(name, T)                                                                                    \
    extern "C" __global__ void name(T *Z, const T *D, double t, T *R, double *loss, const long long *y,    \
                                    const double *weight, int n, int K)                                    \
    {                                                                                                      \
        residual(Z, D, t, R, loss, y, weight, n, K);                                                       \
    }

KERNEL(residual_float32, float)
KERNEL(residual_float64, double)
"""

Kernel = Callable[[tuple[int, int, int], tuple[int, int, int], list], object]  # of grid, block and arguments


class CudaEngine(Engine, ABC):
    """Everything resident on a CUDA device."""

    block_bytes = 256 << 20  # few launches; a block's logits pass through the device's memory anyway
    converted_bytes = 1 << 30

    @abstractmethod
    def kernel(self, name: str) -> Kernel | None:
        """Return the kernel ``name`` of `SOURCE`, or None if only the array formulas can run."""

    def residual(self, work, t, index):
        """Fused: see `Engine.residual`."""
        xp, Z, D = self.xp, work.Z[index], work.D[index]
        n, K = Z.shape
        kernel = self.kernel(f"residual_{str(Z.dtype).removeprefix('torch.')}")
        if kernel is None:
            return super().residual(work, t, index)
        R, loss = xp.empty_like(Z), xp.empty((n,), dtype=xp.float64, **self.on_device)
        arguments = [Z, D, float(t), R, loss, work.y[index], work.weight[index], n, K]
        kernel((-(-n // THREADS), 1, 1), (THREADS, 1, 1), arguments)
        return xp.sum(loss), R, xp.sum(R, axis=0, dtype=xp.float64)
