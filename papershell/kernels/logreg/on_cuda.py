"""What the CUDA engines of CuPy and PyTorch share: one fused pass over the logits. Not yet run on a GPU.

A thread takes one row of one problem through softmax (or sigmoid), loss and residual, in float64 as on the
CPU. Columns stand class by class, so that neighbouring threads read neighbouring logits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from papershell.kernels.logreg.losses import Array
from papershell.kernels.logreg.products import FloatEngine

THREADS = 256  # of a block

# Reads no header, so that NVRTC needs no toolkit, and a C++ compiler takes it too.
SOURCE = r"""
__device__ inline void put(float *d, int C, int pieces, double r) { *d = (float)r; }

__device__ inline void put(double *d, int C, int pieces, double r) { *d = r; }

// bfloat16: the upper half of a float32, rounded to even. NaN is left to the loss, which rejects the step.
__device__ inline void put(unsigned short *d, int C, int pieces, double r)
{
    for (int s = 0; s < pieces; s++) {
        union { float value; unsigned bits; } u;
        u.value = (float)r;
        u.bits = (u.bits + 0x7fff + (u.bits >> 16 & 1)) & 0xffff0000;
        d[s * C] = u.bits >> 16;
        r -= u.value;
    }
}

template <typename In>
__device__ inline double logit(const In *z, const double *bias, int C, int pieces)
{
    double sum = 0.0;
    for (int s = pieces - 1; s >= 0; s--)
        sum += z[s * C];
    return sum + *bias;
}

template <typename In, typename Out>
__device__ inline void residual(const In *Z, Out *D, double *loss, const double *bias, const long long *y,
                                const double *weight, const long long *fold, int n, int A, int K, int F,
                                int pieces, int ovr)
{
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x, row = thread / A;
    if (row >= n)
        return;
    const int m = thread % A, C = K * A, label = y[row];
    const In *z = Z + row * pieces * C + m;
    Out *d = D + row * pieces * C + m;  // D may be Z: a class is written after its last reading
    bias += m;
    const double w = weight[row * F + fold[m]], at_label = logit(z + label * A, bias + label * A, C, pieces);
    double value = -at_label;
    if (ovr) {
        for (int k = 0; k < K; k++) {
            const double x = logit(z + k * A, bias + k * A, C, pieces), e = exp(-fabs(x));
            value += fmax(x, 0.0) + log1p(e);
            put(d + k * A, C, pieces, w * ((x >= 0.0 ? 1.0 : e) / (1.0 + e) - (k == label)));
        }
    } else {
        double top = at_label, total = 0.0;
        for (int k = 0; k < K; k++)
            top = fmax(top, logit(z + k * A, bias + k * A, C, pieces));
        for (int k = 0; k < K; k++)
            total += exp(logit(z + k * A, bias + k * A, C, pieces) - top);
        value += log(total) + top;
        for (int k = 0; k < K; k++) {
            const double p = exp(logit(z + k * A, bias + k * A, C, pieces) - top) / total;
            put(d + k * A, C, pieces, w * (p - (k == label)));
        }
    }
    loss[thread] = w * value;
}

#define KERNEL(name, In, Out)                                                                              \
    extern "C" __global__ void name(const In *Z, Out *D, double *loss, const double *bias,                 \
                                    const long long *y, const double *weight, const long long *fold,       \
                                    int n, int A, int K, int F, int pieces, int ovr)                       \
    {                                                                                                      \
        residual(Z, D, loss, bias, y, weight, fold, n, A, K, F, pieces, ovr);                              \
    }

KERNEL(residual_float32, float, float)
KERNEL(residual_float64, double, double)
KERNEL(residual_bfloat16, float, unsigned short)
"""

Kernel = Callable[[tuple[int, int, int], tuple[int, int, int], list], object]  # of grid, block and arguments


class CudaEngine(FloatEngine, ABC):
    """Everything resident on a CUDA device, which the host waits for every few passes only."""

    look_every = 4
    batch = 64  # blocks of the metric made at once: alone they leave most of a device idle
    block_bytes = 256 << 20  # few launches; a block's logits pass through the device's memory anyway
    converted_bytes = 1 << 30

    def __init__(self, samples, xp, device=None):
        self.constants: dict[tuple, Array] = {}
        super().__init__(samples, xp, device)

    @abstractmethod
    def kernel(self, name: str) -> Kernel | None:
        """Return the kernel ``name`` of `SOURCE`, or None where only the array formulas can run."""

    def constant(self, values):
        """See `FloatEngine.constant`: a copy from the host waits for the device, so none is made twice."""
        key = values.dtype.str, values.shape, values.tobytes()
        if key not in self.constants:
            self.constants[key] = self.array(values)
        return self.constants[key]

    def residual(self, Z, bias, index, shape, fold):
        """Fused: see `FloatEngine.residual`; ``Z`` is overwritten unless it holds pieces."""
        xp, (A, K), n = self.xp, shape, Z.shape[0]
        pieces = Z.shape[1] // (A * K)
        dtype = xp.bfloat16 if pieces > 1 else Z.dtype
        kernel = self.kernel(f"residual_{str(dtype).removeprefix('torch.')}")
        if kernel is None:
            return self.residual_by_formula(Z, bias, index, shape, fold)
        D = xp.empty_like(Z, dtype=dtype) if pieces > 1 else Z
        loss = xp.empty((n, A), dtype=xp.float64, **self.on_device)
        folds, ovr = self.weight.shape[1], int(self.samples.loss == "ovr")
        arrays = [Z, D, loss, bias + 0, self.y[index], self.weight[index], self.constant(np.asarray(fold))]
        kernel((-(-n * A // THREADS), 1, 1), (THREADS, 1, 1), [*arrays, n, A, K, folds, pieces, ovr])
        total = xp.sum(D, axis=0, dtype=xp.float64)
        return xp.sum(loss, axis=0), D, self.join(total[None], A * K)[0]

    def batches(self, jobs):
        """See `FloatEngine.batches`."""
        for first in range(0, len(jobs), self.batch):
            yield tuple(map(self.xp.stack, zip(*jobs[first : first + self.batch], strict=True)))

    def residual_by_formula(self, Z, bias, index, shape, fold):
        """See `FloatEngine.residual`."""
        return super().residual(Z, bias, index, shape, fold)
