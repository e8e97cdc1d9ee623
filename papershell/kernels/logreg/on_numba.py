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

from papershell.kernels.backends import cpu_count
from papershell.kernels.logreg.products import FloatEngine, Samples

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01  # ln 2 in two parts (fdlibm e_exp.c): n * LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10
LN2 = LN2_HIGH + LN2_LOW
SMALLEST_EXPONENT = -708.0  # exp of less would be subnormal
ROOT_HALF_BITS = 0x3FE6A09E667F3BCD  # of sqrt(1/2) as a float64
U = np.uint64
LANES = 256  # of a tile
SHORT = U(8)  # problems that do not fill a vector

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


@_inline
def _log(x):
    """log(x) of a normal number to 1 ulp or two (the series of fdlibm e_log.c), vectorized likewise."""
    bits = np.float64(x).view(np.int64)
    n = (bits - ROOT_HALF_BITS) >> 52
    f = np.int64(bits - (n << 52)).view(np.float64) - 1.0
    s = f / (2.0 + f)
    w = s * s
    p = 1.479819860511658591e-01
    p = p * w + 1.531383769920937332e-01
    p = p * w + 1.818357216161805012e-01
    p = p * w + 2.222219843214978396e-01
    p = p * w + 2.857142874366239149e-01
    p = p * w + 3.999999999940941908e-01
    p = p * w + 6.666666666666735130e-01
    return n * LN2 + (2.0 * s + s * w * p) + (x - x)  # NaN of NaN


# Columns stand class by class, c = k * A + m. A tile of few rows is turned into ``z`` (K, lanes): of each class
# a vector over rows and problems, j = i * A + m, so that every loop over j is wide, be there one problem or many.
# Indices are unsigned: a signed one might be negative and count from the end, which LLVM does not vectorize.


@_inline
def _load(Z, first, n, A, pieces, z):
    """Set ``z`` to the numbers that the digit sums of ``n`` rows make, in units of the last digit."""
    K = U(z.shape[0])
    for k in range(K):
        for j in range(n * A):
            z[k, j] = 0.0
    for s in range(pieces):
        if A < SHORT:
            for k in range(K):
                for m in range(A):
                    for i in range(n):
                        z[k, i * A + m] = z[k, i * A + m] * 256.0 + Z[first + i, (s * K + k) * A + m]
        else:
            for i in range(n):
                for k in range(K):
                    for m in range(A):
                        z[k, i * A + m] = z[k, i * A + m] * 256.0 + Z[first + i, (s * K + k) * A + m]


@_inline
def _store(z, first, n, A, s, out):
    """Set the columns of piece ``s`` of ``n`` rows of ``out`` to ``z``."""
    K = U(z.shape[0])
    if A < SHORT:
        for k in range(K):
            for m in range(A):
                for i in range(n):
                    out[first + i, (s * K + k) * A + m] = z[k, i * A + m]
    else:
        for i in range(n):
            for k in range(K):
                for m in range(A):
                    out[first + i, (s * K + k) * A + m] = z[k, i * A + m]


@_inline
def _softmax(z, label, weight, lanes, loss, top, total):
    """Turn the logits ``z`` of a tile into residuals, adding to ``loss`` of its lanes; ``top``, ``total`` are room."""
    K = U(z.shape[0])
    for j in range(lanes):
        top[j] = z[U(0), j]
        total[j] = 0.0
    for k in range(U(1), K):
        for j in range(lanes):
            top[j] = max(top[j], z[k, j])
    for j in range(lanes):
        loss[j] += weight[j] * (top[j] - z[label[j], j])
    for k in range(K):
        for j in range(lanes):
            z[k, j] = _exp(z[k, j] - top[j])
            total[j] += z[k, j]
    for j in range(lanes):
        loss[j] += weight[j] * _log(total[j])
        total[j] = weight[j] / total[j]
    for k in range(K):
        for j in range(lanes):
            z[k, j] *= total[j]


@_inline
def _sigmoid(z, label, weight, lanes, loss, value, product):
    """The same for one-vs-rest: K sigmoids of each row and problem."""
    for j in range(lanes):
        value[j] = -z[label[j], j]
        product[j] = 1.0
    for k in range(U(z.shape[0])):
        for j in range(lanes):
            e = _exp(-abs(z[k, j]))
            value[j] += max(z[k, j], 0.0)
            product[j] *= 1.0 + e
            z[k, j] = weight[j] * (1.0 if z[k, j] >= 0.0 else e) / (1.0 + e)
        if k & U(511) == U(511):  # the product of so many factors below 2 is still finite
            for j in range(lanes):
                value[j] += _log(product[j])
                product[j] = 1.0
    for j in range(lanes):
        loss[j] += weight[j] * (value[j] + _log(product[j]))


@_jit
def _residual(Z, pieces, unit, bias, y, weight, fold, ovr, out, unit_out, loss, total):
    """Turn logits into residuals, adding to their ``loss`` (A,) and to the residuals' sums ``total`` (C,).

    Z : (n, >= pieces * C) sums of digits, which times ``unit`` (C,) plus ``bias`` (C,) make the logits.
    weight, fold : (n, F) and (A,), the row's weights and which of them a problem takes.
    out : like Z, for the digits of the residuals in units of ``unit_out``, whose sums are then exact;
        or where that is zero, (n, C) for the residuals.
    """
    A, pieces = U(loss.size), U(pieces)
    K, rows = U(bias.size // loss.size), U(max(1, LANES // loss.size))
    z, q = np.empty((K, rows * A)), np.empty((K, rows * A), np.int64)
    units, biases, totals = np.empty(z.shape), np.empty(z.shape), np.zeros(z.shape)
    losses, weights, labels = np.zeros(rows * A), np.empty(rows * A), np.empty(rows * A, U)
    room, more = np.empty(rows * A), np.empty(rows * A)
    for i in range(rows):
        for k in range(K):
            for m in range(A):
                units[k, i * A + m], biases[k, i * A + m] = unit[k * A + m], bias[k * A + m]
    for start in range(0, y.size, rows):
        first, n = U(start), U(min(rows, y.size - start))
        lanes = n * A
        for i in range(n):
            for m in range(A):
                labels[i * A + m], weights[i * A + m] = y[first + i], weight[first + i, U(fold[m])]
        _load(Z, first, n, A, pieces, z)
        for k in range(K):
            for j in range(lanes):
                z[k, j] = z[k, j] * units[k, j] + biases[k, j]
        if ovr:
            _sigmoid(z, labels, weights, lanes, losses, room, more)
        else:
            _softmax(z, labels, weights, lanes, losses, room, more)
        for j in range(lanes):
            z[labels[j], j] -= weights[j]
        for k in range(K):
            for j in range(lanes):
                if unit_out > 0.0:
                    z[k, j] = np.rint(z[k, j] * (1.0 / unit_out))
                totals[k, j] += z[k, j]
                q[k, j] = np.int64(z[k, j])
        if unit_out == 0.0:
            _store(z, first, n, A, U(0), out)
            continue
        for s in range(pieces):
            _store(q, first, n, A, pieces - U(1) - s, out)  # the last eight bits
            for k in range(K):
                for j in range(lanes):
                    q[k, j] = (q[k, j] + 128) >> 8
    for i in range(rows):
        for m in range(A):
            loss[m] += losses[i * A + m]
            for k in range(K):
                total[k * A + m] += totals[k, i * A + m]


@_jit
def join_sums(Z, pieces, unit, out):
    """Set ``out`` (n, C) float32 to the numbers that sums of digits ``Z`` (n, >= pieces * C) int32 make."""
    columns, z = U(unit.size), np.empty(unit.size)
    for i in range(out.shape[0]):
        for c in range(columns):
            z[c] = Z[i, c]
        for s in range(U(1), U(pieces)):
            for c in range(columns):
                z[c] = z[c] * 256.0 + Z[i, s * columns + c]
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
        y, weight, ovr = self.y[index], self.weight[index], self.samples.loss == "ovr"
        _residual(Z, 1, np.ones(bias.size), bias, y, weight, fold, ovr, Z, 0.0, loss, total)
        return loss, Z, total

    def inverse(self, matrix: np.ndarray) -> np.ndarray:
        """Return the inverse by Cholesky; twice as fast as a general one."""
        factor, failed = lapack.dpotrf(matrix, lower=True)
        if failed:
            raise np.linalg.LinAlgError("the metric is not positive definite")
        lower, _ = lapack.dpotri(factor, lower=True)  # zeros above the diagonal
        np.fill_diagonal(lower, 0.5 * lower.diagonal())
        return lower + lower.T
