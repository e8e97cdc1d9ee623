"""CPU engine: BLAS or exact integer products, and one fused Numba pass over the logits.

The fused pass reads the logits of a block of rows once and writes residuals over the same
cache lines: softmax (or sigmoid), loss, residual, intercept gradient. It works in float64
whatever the products deliver, so the line search sees differences far below float32.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from scipy.linalg import lapack

from kernels.backends import cpu_count
from kernels.logreg.products import FloatEngine, Samples

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01  # ln 2 in two parts (fdlibm e_exp.c): n * LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10
SMALLEST_EXPONENT = -708.0  # exp of less would be subnormal

# Contraction to FMA is allowed, reassociation is not: a rate's sums must not depend on its companions.
_jit = numba.njit(cache=True, fastmath={"contract"}, error_model="numpy", nogil=True)
_inline = numba.njit(inline="always", fastmath={"contract"}, error_model="numpy")


@_inline
def _exp(x):
    """exp(x) for x <= 0 to 1 ulp or two, without a branch or a call, so that LLVM vectorizes it."""
    x = max(x, SMALLEST_EXPONENT)
    n = np.rint(x * LOG2_E)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * np.int64((np.int64(n) + 1023) << 52).view(np.float64)


# Columns stand class by class, c = k * A + m, so that a loop over the problems m fills vectors.


@_inline
def _softmax_row(z, label, weight, loss, top, total):
    """Turn one row's logits ``z`` (K*A,) into its residuals, adding to ``loss`` (A,); ``top``, ``total`` are room."""
    A, K = weight.size, z.size // weight.size
    for m in range(A):
        top[m] = z[m]
        total[m] = 0.0
    for k in range(1, K):
        for m in range(A):
            top[m] = max(top[m], z[k * A + m])
    for k in range(K):
        for m in range(A):
            z[k * A + m] -= top[m]
    for m in range(A):
        loss[m] -= weight[m] * z[label * A + m]
    for c in range(z.size):
        z[c] = _exp(z[c])
    for k in range(K):
        for m in range(A):
            total[m] += z[k * A + m]
    for m in range(A):
        loss[m] += weight[m] * np.log(total[m])
        top[m] = weight[m] / total[m]
    for k in range(K):
        for m in range(A):
            z[k * A + m] *= top[m]
    for m in range(A):
        z[label * A + m] -= weight[m]


@_inline
def _sigmoid_row(z, label, weight, loss, value, product):
    """The same for one-vs-rest: K sigmoids of each problem."""
    A, K = weight.size, z.size // weight.size
    for m in range(A):
        value[m] = -z[label * A + m]
        product[m] = 1.0
    for k in range(K):
        for m in range(A):
            logit = z[k * A + m]
            e = _exp(-abs(logit))
            value[m] += max(logit, 0.0)
            product[m] *= 1.0 + e
            z[k * A + m] = weight[m] * (1.0 if logit >= 0.0 else e) / (1.0 + e)
        if k % 512 == 511:  # the product of so many factors below 2 is still finite
            for m in range(A):
                value[m] += np.log(product[m])
                product[m] = 1.0
    for m in range(A):
        loss[m] += weight[m] * (value[m] + np.log(product[m]))
        z[label * A + m] -= weight[m]


@_jit
def _residual_of_floats(Z, bias, y, weight, ovr, loss, total):
    """Overwrite logits ``Z`` (n, C) with residuals; add to ``loss`` (A,) and to their sums ``total`` (C,)."""
    z, room, more = np.empty(bias.size), np.empty(loss.size), np.empty(loss.size)
    for i in range(Z.shape[0]):
        for c in range(z.size):
            z[c] = Z[i, c] + bias[c]
        if ovr:
            _sigmoid_row(z, y[i], weight[i], loss, room, more)
        else:
            _softmax_row(z, y[i], weight[i], loss, room, more)
        for c in range(z.size):
            Z[i, c] = z[c]
            total[c] += z[c]


@_inline
def _join(digits, pieces, z):
    """Set ``z`` (C,) to the numbers that one row of digit sums (pieces * C,) makes, in units of the last digit."""
    for c in range(z.size):
        z[c] = digits[c]
    for s in range(1, pieces):
        for c in range(z.size):
            z[c] = z[c] * 256.0 + digits[s * z.size + c]


@_jit
def _residual_of_digits(Z, pieces, unit, bias, y, weight, ovr, unit_out, D, loss, total):
    """The same from digit sums ``Z`` (n, pieces * C) int32 to the residuals' digits ``D``, int8 of that shape."""
    columns, inverse = bias.size, 1.0 / unit_out
    z, q = np.empty(columns), np.empty(columns, np.int64)
    room, more = np.empty(loss.size), np.empty(loss.size)
    for i in range(Z.shape[0]):
        _join(Z[i], pieces, z)
        for c in range(columns):
            z[c] = z[c] * unit[c] + bias[c]
        if ovr:
            _sigmoid_row(z, y[i], weight[i], loss, room, more)
        else:
            _softmax_row(z, y[i], weight[i], loss, room, more)
        for c in range(columns):
            total[c] += z[c]
            q[c] = np.int64(np.rint(z[c] * inverse))
        for s in range(pieces - 1, 0, -1):
            for c in range(columns):
                low = ((q[c] + 128) & 255) - 128
                D[i, s * columns + c] = low
                q[c] = (q[c] - low) >> 8
        for c in range(columns):
            D[i, c] = q[c]


@_jit
def join_sums(Z, pieces, unit, out):
    """Set ``out`` (n, C) float32 to the numbers that sums of digits ``Z`` (n, pieces * C) int32 make."""
    columns = unit.size
    z = np.empty(columns)
    for i in range(Z.shape[0]):
        _join(Z[i], pieces, z)
        for c in range(columns):
            out[i, c] = z[c] * unit[c]


class Engine(FloatEngine):
    """Float32 BLAS products and the fused residual, a block of rows a thread.

    Every thread takes a block through both products and the residual by itself, so that BLAS
    and Numba need no threads of their own: two pools on the same cores wait for each other.
    """

    def __init__(self, samples: Samples):
        super().__init__(samples, np)
        self.threads = cpu_count()
        self.pool = ThreadPoolExecutor(self.threads, initializer=self.start_thread)

    def start_thread(self) -> None:
        """Prepare a thread of the pool."""

    def map(self, function, items):
        """See `FloatEngine.map`."""
        return self.pool.map(function, items)

    def residual(self, Z, bias, index, shape, fold):
        """Fused: see `FloatEngine.residual`; ``Z`` is overwritten."""
        loss, total = np.zeros(shape[0]), np.zeros(bias.size)
        y, weight, ovr = self.y[index], self.weight[index][:, fold], self.samples.loss == "ovr"
        _residual_of_floats(Z, bias, y, weight, ovr, loss, total)
        return loss, Z, total

    def inverse(self, matrix: np.ndarray) -> np.ndarray:
        """Return the inverse by Cholesky; twice as fast as a general one."""
        factor, failed = lapack.dpotrf(matrix, lower=True)
        if failed:
            raise np.linalg.LinAlgError("the metric is not positive definite")
        lower, _ = lapack.dpotri(factor, lower=True)
        return np.tril(lower) + np.tril(lower, -1).T
