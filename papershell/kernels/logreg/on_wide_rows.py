"""The fused passes of `on_cpu` for many classes: a row is as long as many vectors, which run along it."""

from __future__ import annotations

import numpy as np

from papershell.kernels.logreg.vector_math import exp, inline, jit, log

FEWEST_CLASSES = 48  # below, vectors over the rows of a tile take less time
LANES = 32  # sums kept side by side, in an order that does not depend on the machine


@inline
def _largest(z, lanes):
    """Return the largest number of ``z`` (K,); ``lanes`` is room."""
    whole = len(z) // LANES * LANES
    for j in range(LANES):
        lanes[j] = z[0]
    for first in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] = max(lanes[j], z[first + j])
    largest = lanes[0]
    for j in range(LANES):
        largest = max(largest, lanes[j])
    for k in range(whole, len(z)):
        largest = max(largest, z[k])
    return largest


@inline
def _sum(z, lanes):
    """Return the sum of ``z`` (K,); ``lanes`` is room."""
    whole = len(z) // LANES * LANES
    for j in range(LANES):
        lanes[j] = 0.0
    for first in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += z[first + j]
    total = 0.0
    for j in range(LANES):
        total += lanes[j]
    for k in range(whole, len(z)):
        total += z[k]
    return total


@jit
def residuals(Z, D, t, y, weight, out, total):
    """Go ``t`` along D, put the residuals into ``out`` (n, K), add them to ``total`` (K,) and return the loss."""
    N, K = Z.shape
    z, lanes, loss = np.empty(K), np.empty(LANES), 0.0
    for i in range(N):
        for k in range(K):
            z[k] = Z[i, k] + t * D[i, k]
        if t != 0.0:
            for k in range(K):
                Z[i, k] = z[k]
        top, own = _largest(z, lanes), z[y[i]]
        for k in range(K):
            z[k] = exp(z[k] - top)
        whole = _sum(z, lanes)
        loss += weight[i] * (log(whole) + (top - own))
        scale = weight[i] / whole
        for k in range(K):
            z[k] *= scale
        z[y[i]] -= weight[i]
        for k in range(K):
            out[i, k] = z[k]
            total[k] += z[k]
    return loss


@jit
def slopes(Z, D, t, y, weight):
    """Return first and second derivative of the loss of logits Z (n, K) at the length ``t`` along D (n, K)."""
    N, K = Z.shape
    z, d, lanes, first, second = np.empty(K), np.empty(K), np.empty(LANES), 0.0, 0.0
    for i in range(N):
        for k in range(K):
            d[k] = D[i, k]
            z[k] = Z[i, k] + t * d[k]
        top = _largest(z, lanes)
        for k in range(K):
            z[k] = exp(z[k] - top)
        whole = _sum(z, lanes)
        for k in range(K):
            z[k] *= d[k]
        mean = _sum(z, lanes) / whole
        for k in range(K):
            z[k] *= d[k]
        square = _sum(z, lanes) / whole
        first += weight[i] * (mean - d[y[i]])
        second += weight[i] * (square - mean * mean)
    return first, second
