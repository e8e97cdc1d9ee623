"""CPU engine: BLAS products, and fused Numba passes over the kept logits.

A fused pass reads the logits of a block of rows once: step along the direction, softmax (or sigmoid), loss, residual,
sums. It works in float64 whatever the products deliver, so that losses differ far below float32.
"""

from __future__ import annotations

import numpy as np

from papershell.kernels import arrays, threads
from papershell.kernels.backends import cpu_count
from papershell.kernels.logreg import engine, on_wide_rows
from papershell.kernels.logreg.problem import Samples
from papershell.kernels.logreg.vector_math import exp, inline, jit, log

U = np.uint64
TILE = 8192  # logits
WIDEST_EXACT = 64  # features of float64 whose products with a column take less time than their rounding


@inline
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
            z[k, j] = exp(z[k, j] - top[j])
            total[j] += z[k, j]
    for j in range(lanes):
        loss[j] += weight[j] * log(total[j])
        total[j] = weight[j] / total[j]
    for k in range(K):
        for j in range(lanes):
            z[k, j] *= total[j]


@inline
def _sigmoid(z, label, weight, lanes, loss):
    """The same for a single column of logits, with labels 0 and 1."""
    for j in range(lanes):
        e = exp(-abs(z[U(0), j]))
        loss[j] += weight[j] * (max(z[U(0), j], 0.0) + log(1.0 + e) - (z[U(0), j] if label[j] else 0.0))
        z[U(0), j] = weight[j] * (1.0 if z[U(0), j] >= 0.0 else e) / (1.0 + e)


@inline
def _load(Z, D, t, first, n, z):
    """Set ``z`` (K, lanes) to the logits of ``n`` rows from ``first`` on, ``t`` along the direction."""
    for k in range(U(z.shape[0])):
        for j in range(n):
            z[k, j] = Z[first + j, k] + t * D[first + j, k]


@inline
def _rows_of_tile(K):
    """Return how many rows fill a tile: whole vectors."""
    return max(8, min(256, TILE // K // 8 * 8))


# A tile of few rows is turned into ``z`` (K, lanes): of each class a vector over rows, so that loops over j are wide.
# Indices are unsigned: a signed one might be negative and count from the end, which LLVM does not vectorize.


@jit
def residuals(Z, D, t, y, weight, out, column, columns, slices, unit_out, total):
    """Go ``t`` along D, turn the logits into residuals, return the loss and add the residuals to ``total`` (K,).

    Z, D : (n, K); Z is moved along.
    out : (n, >= slices * columns), in whose columns from ``column`` on the residuals are put: as they are, or
        if ``unit_out`` is not zero as digits of fixed point in that unit, whose sums are then exact.
    """
    N, K = Z.shape
    rows = _rows_of_tile(K)
    z, q = np.empty((K, rows)), np.empty((K, rows), np.int64)
    totals, losses = np.zeros((K, rows)), np.zeros(rows)
    weights, labels, room, more = np.empty(rows), np.empty(rows, U), np.empty(rows), np.empty(rows)
    column, columns, slices = U(column), U(columns), U(slices)
    for start in range(0, N, rows):
        first, n = U(start), U(min(rows, N - start))
        for j in range(n):
            labels[j], weights[j] = U(y[first + j]), weight[first + j]
        _load(Z, D, t, first, n, z)
        if t != 0.0:
            for j in range(n):
                for k in range(U(K)):
                    Z[first + j, k] = z[k, j]
        if K == 1:
            _sigmoid(z, labels, weights, n, losses)
            for j in range(n):
                z[U(0), j] -= weights[j] if labels[j] else 0.0
        else:
            _softmax(z, labels, weights, n, losses, room, more)
            for j in range(n):
                z[labels[j], j] -= weights[j]
        if unit_out == 0.0:
            for k in range(U(K)):
                for j in range(n):
                    totals[k, j] += z[k, j]
                    out[first + j, column + k] = z[k, j]
            continue
        for k in range(U(K)):
            for j in range(n):
                rounded = np.rint(z[k, j] * (1.0 / unit_out))
                totals[k, j] += rounded
                q[k, j] = np.int64(rounded)
        for s in range(slices):
            last = (slices - U(1) - s) * columns + column
            for k in range(U(K)):
                for j in range(n):
                    out[first + j, last + k] = q[k, j]  # the last eight bits
                    q[k, j] = (q[k, j] + 128) >> 8
    loss = 0.0
    for j in range(rows):
        loss += losses[j]
        for k in range(K):
            total[k] += totals[k, j]
    return loss


@jit
def slopes(Z, D, t, y, weight):
    """Return first and second derivative of the loss of logits Z (n, K) at the length ``t`` along D (n, K)."""
    N, K = Z.shape
    rows = _rows_of_tile(K)
    z, d = np.empty((K, rows)), np.empty((K, rows))
    top, total, mean, square = np.empty(rows), np.empty(rows), np.empty(rows), np.empty(rows)
    firsts, seconds = np.zeros(rows), np.zeros(rows)
    for start in range(0, N, rows):
        first, n = U(start), U(min(rows, N - start))
        for k in range(U(K)):
            for j in range(n):
                d[k, j] = D[first + j, k]
                z[k, j] = Z[first + j, k] + t * d[k, j]
        if K == 1:
            for j in range(n):
                e = exp(-abs(z[U(0), j]))
                p = (1.0 if z[U(0), j] >= 0.0 else e) / (1.0 + e)
                w = weight[first + j] * d[U(0), j]
                firsts[j] += w * (p - (1.0 if y[first + j] else 0.0))
                seconds[j] += w * d[U(0), j] * p * (1.0 - p)
            continue
        for j in range(n):
            top[j], total[j], mean[j], square[j] = z[U(0), j], 0.0, 0.0, 0.0
        for k in range(U(1), U(K)):
            for j in range(n):
                top[j] = max(top[j], z[k, j])
        for k in range(U(K)):
            for j in range(n):
                e = exp(z[k, j] - top[j])
                total[j] += e
                mean[j] += e * d[k, j]
                square[j] += e * d[k, j] * d[k, j]
        for j in range(n):
            mean[j] /= total[j]
            firsts[j] += weight[first + j] * (mean[j] - D[first + j, U(y[first + j])])
            seconds[j] += weight[first + j] * (square[j] / total[j] - mean[j] * mean[j])
    first_sum, second_sum = 0.0, 0.0
    for j in range(rows):
        first_sum += firsts[j]
        second_sum += seconds[j]
    return first_sum, second_sum


@jit
def moments(Z, shift, y, weight, every, sums, roots):
    """Return the loss of logits Z (n, K) plus ``shift`` (K,), and add the residuals to ``sums`` (K,).

    roots : (ceil(n / every), K), set to p times the root of the weight in every few rows.
    """
    N, K = Z.shape
    rows = _rows_of_tile(K)
    z, totals, losses = np.empty((K, rows)), np.zeros((K, rows)), np.zeros(rows)
    weights, labels, room, more = np.empty(rows), np.empty(rows, U), np.empty(rows), np.empty(rows)
    for start in range(0, N, rows):
        first, n = U(start), U(min(rows, N - start))
        for j in range(n):
            labels[j], weights[j] = U(y[first + j]), weight[first + j]
        for k in range(U(K)):
            for j in range(n):
                z[k, j] = Z[first + j, k] + shift[k]
        if K == 1:
            _sigmoid(z, labels, weights, n, losses)
        else:
            _softmax(z, labels, weights, n, losses, room, more)
        for j in range(n):
            if (start + np.int64(j)) % every == 0:
                scale = 1.0 / np.sqrt(weights[j]) if weights[j] > 0.0 else 0.0
                for k in range(U(K)):
                    roots[(first + j) // U(every), k] = z[k, j] * scale
        for j in range(n):
            if K > 1 or labels[j]:
                z[labels[j] if K > 1 else U(0), j] -= weights[j]
        for k in range(U(K)):
            for j in range(n):
                totals[k, j] += z[k, j]
    loss = 0.0
    for j in range(rows):
        loss += losses[j]
        for k in range(K):
            sums[k] += totals[k, j]
    return loss


@jit
def join_sums(S, slices, unit, bias, first_column, Z):
    """Set Z (n, K) to what sums of digits S (n, >= slices * C) make from a column on, plus ``bias`` (C,)."""
    n, K = Z.shape
    C, c = U(unit.size), U(first_column)
    for i in range(n):
        for k in range(U(K)):
            z = np.float64(S[i, c + k])
            for s in range(U(1), U(slices)):
                z = z * 256.0 + S[i, s * C + c + k]
            Z[i, k] = z * unit[c + k] + bias[c + k]


@jit
def widen(bits, out):
    """Set ``out`` (n, P) to the float16 numbers of ``bits`` (n, P); see `arrays.floats`."""
    for i in range(bits.shape[0]):
        for j in range(bits.shape[1]):
            wide = np.uint32((np.uint32(bits[i, j]) & np.uint32(0x7FFF)) << np.uint32(13)).view(np.float32)
            value = wide * np.float32(2.0**112)
            out[i, j] = -value if bits[i, j] & np.uint16(0x8000) else value


@jit
def standardize(X, center, factor, out):
    """Set ``out`` (n, P) to (X - center) * factor, computed in float64."""
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            out[i, j] = (np.float64(X[i, j]) - center[j]) * factor[j]


class Engine(engine.Engine):
    """Float32 BLAS products and the fused passes, a block of rows a thread.

    Every thread takes a block through both products and the residual by itself, so that BLAS
    and Numba need no threads of their own: two pools on the same cores wait for each other.
    """

    most_products = 1 << 35  # in float32: each step of Newton's method on the intercepts gains seven digits

    def __init__(self, samples: Samples):
        super().__init__(samples, np)
        self.threads = cpu_count()
        exact = samples.X.dtype == np.float64 or samples.center is not None
        if exact and samples.n_classes == 2 and samples.X.shape[1] <= WIDEST_EXACT:
            self.precisions = (engine.FLOAT64,)

    def map(self, function, items):
        """See `engine.Engine.map`."""
        return threads.pool().map(function, items)

    def rows(self, index, dtype):
        """See `engine.Engine.rows`; without a temporary array."""
        X = self.X[index]
        if X.dtype == np.float16 and X.dtype.isnative:
            out = np.empty(X.shape, dtype if self.center is None else np.float32)
            widen(X.view(np.uint16), out)
            X = out
        if self.center is None:
            return X.astype(dtype, copy=False)
        out = np.empty(X.shape, dtype)
        standardize(arrays.floats(X), self.center, self.factor, out)
        return out

    def set_logits(self, numbers, theta, precision):
        """See `engine.Engine.set_logits`; without weights every row has the same logits, and X is not read."""
        P = self.X.shape[1]
        if theta[:, :, :P].any():
            super().set_logits(numbers, theta, precision)
            return
        shape, dtype = (len(self.X), theta.shape[1]), self.precisions[precision].logits
        for number, point in zip(numbers, theta, strict=True):
            kept = self.kept[number]
            kept.Z, kept.D = np.zeros(shape, dtype), np.zeros(shape, dtype)
            if self.samples.fit_intercept:
                kept.Z[:] = point[:, P]

    def residual(self, work, t, index):
        """Fused: see `engine.Engine.residual`."""
        Z, total = work.Z[index], np.zeros(work.Z.shape[1])
        out = np.empty_like(Z)
        if Z.shape[1] >= on_wide_rows.FEWEST_CLASSES:
            loss = on_wide_rows.residuals(Z, work.D[index], t, work.y[index], work.weight[index], out, total)
            return loss, out, total
        loss = residuals(
            Z, work.D[index], t, work.y[index], work.weight[index], out, 0, out.shape[1], 1, 0.0, total
        )
        return loss, out, total

    def moments(self, number, shift):
        """Fused: see `engine.Engine.moments`."""
        work = self.kept[number]
        N, K = work.Z.shape
        every = -(-N * K * K // self.most_products)

        def block(index: slice) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
            Z, w, sums = work.Z[index], work.weight[index], np.zeros(K)
            roots = np.empty((-(-len(Z) // every), K), np.float32)
            loss = moments(Z, shift, work.y[index], w, every, sums, roots)
            return loss, sums, roots.T @ roots, np.sqrt(w[::every]) @ roots

        # the products (K, K) of a block must not outweigh its logits
        loss, sums, squares, totals = self.total(block, self.blocks(16 * K // min(every + K // 64, K)))
        return loss, sums, every * (np.diag(totals) - squares.astype(np.float64))

    def slope(self, work, t):
        """Fused: see `engine.Engine.slope`."""

        along = on_wide_rows.slopes if work.Z.shape[1] >= on_wide_rows.FEWEST_CLASSES else slopes

        def block(index: slice) -> tuple[float, float]:
            return along(work.Z[index], work.D[index], t, work.y[index], work.weight[index])

        first, second = self.total(block, self.blocks(work.Z.shape[1] * 16))
        return first, second
