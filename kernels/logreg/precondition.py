"""The metric of the iteration: inverse Hessian blocks that follow p (1 - p).

Per class, the Hessian of the mean objective is (sum_i h_i x_i x_i' + l2 I) / n with curvatures
h_i = w_i p_i (1 - p_i). At W = 0 the blocks are X'X / K, exact for multinomial gradients, which
sum to zero over the classes. Later most h_i are tiny, and a few thousand samples drawn in
proportion to h carry the block: their weighted Gram is the plain Gram of the drawn rows.

Böhning, "Multinomial logistic regression algorithm" (1992), for the curvature at W = 0;
Xu, Yang, Roosta-Khorasani, Ré, Mahoney, "Sub-sampled Newton methods with non-uniform sampling"
(2016), section 3, for the sampling.
"""

from __future__ import annotations

import numpy as np

from kernels.logreg.losses import Array
from kernels.logreg.products import FloatEngine

SAMPLED_ROWS = 8192  # drawn for one block; fewer cost more passes than they save, more the reverse
LARGEST_BLOCK = 4096  # features beyond which blocks are diagonal
LARGEST_METRIC_BYTES = 128 << 20  # of one problem; beyond it the classes share one block
JITTER = 1e-10  # on the unit diagonal: keeps duplicate and constant columns invertible


def draw(curvature: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` row numbers in proportion to ``curvature`` (N,), by systematic sampling.

    Equally spaced marks on the cumulative curvature: no random numbers, little variance, rows of
    large curvature more than once.
    """
    edges = np.cumsum(curvature)
    marks = (np.arange(count) + 0.5) * (edges[-1] / count)
    return np.searchsorted(edges, marks).clip(max=curvature.size - 1)


def weighted_gram(engine: FloatEngine, curvature: np.ndarray) -> Array:
    """Return sum_i h_i x_i x_i' (P + 1, P + 1), from drawn rows where there are many; or its diagonal (P + 1,)."""
    count = min(SAMPLED_ROWS, curvature.size)
    if curvature.size > SAMPLED_ROWS:
        rows, share = draw(curvature, count), np.full(count, curvature.sum() / count)
    else:
        rows, share = np.arange(count), curvature
    if engine.width > LARGEST_BLOCK:
        return engine.squares(rows, share)
    if curvature.size > SAMPLED_ROWS:
        return engine.gram(rows) * share[0]
    return engine.weighted_gram(share)


def inverse_block(engine: FloatEngine, gram: Array, ridge: Array) -> Array:
    """Return the inverse of ``gram`` + diag(``ridge``) in float32, computed on a unit diagonal in float64."""
    xp = engine.xp
    if gram.ndim == 1:
        return 1.0 / xp.clip(gram + ridge, np.finfo(np.float32).tiny, None)
    matrix = gram + xp.diag(ridge)
    root = xp.sqrt(xp.clip(xp.linalg.diagonal(matrix), np.finfo(np.float32).tiny, None))
    outer = root[:, None] * root[None, :]
    unit = matrix / outer + JITTER * xp.eye(root.shape[0], dtype=xp.float64, **engine.on_device)
    return xp.astype(engine.inverse(unit) / outer, xp.float32)


def block_bytes(engine: FloatEngine) -> int:
    """Return the bytes of one float32 block."""
    return 4 * engine.width * (engine.width if engine.width <= LARGEST_BLOCK else 1)


def blocks_per_problem(engine: FloatEngine) -> int:
    """Return K, or 1 where K blocks would be too large."""
    K = engine.samples.n_classes
    return K if K * block_bytes(engine) <= LARGEST_METRIC_BYTES else 1


def metric_bytes(engine: FloatEngine) -> int:
    """Return the bytes of one problem's metric."""
    return blocks_per_problem(engine) * block_bytes(engine)


def first_metric(engine: FloatEngine, fold: np.ndarray, ridge: Array) -> Array:
    """Return the metric at W = 0, one block (A, 1, P + 1[, P + 1]) for all classes of a problem."""
    K = engine.samples.n_classes
    share = 1 / K if engine.samples.loss == "multinomial" else 1 / 4
    weight = engine.samples.weight
    grams = {f: weighted_gram(engine, weight[f] * (share / weight[f].sum())) for f in set(fold.tolist())}
    return engine.xp.stack(
        [inverse_block(engine, grams[f], r)[None] for f, r in zip(fold.tolist(), ridge, strict=True)]
    )


def metric_at(engine: FloatEngine, theta: Array, fold: np.ndarray, ridge: Array) -> Array:
    """Return the metric at ``theta`` (A, K, P + 1): a block a class, or one for all where K were too large."""
    share_classes = blocks_per_problem(engine) == 1
    curvatures = []
    for a, f in enumerate(fold.tolist()):
        curvature = engine.to_host(engine.curvature(theta[a], f)) / engine.samples.weight[f].sum()
        curvatures.append(curvature.mean(axis=0, keepdims=True) if share_classes else curvature)
    jobs = [(h, ridge[a]) for a, problem in enumerate(curvatures) for h in problem]
    blocks = list(engine.map(lambda job: inverse_block(engine, weighted_gram(engine, job[0]), job[1]), jobs))
    return engine.xp.stack(blocks).reshape(len(curvatures), -1, *blocks[0].shape)


def apply_metric(xp, metric: Array, gradient: Array) -> Array:
    """Return the metric times ``gradient`` (A, K, P + 1), in float64."""
    if metric.ndim == 3:
        return metric * gradient
    narrow = xp.astype(gradient, xp.float32)
    if metric.shape[1] == 1:
        return xp.astype(narrow @ metric[:, 0], xp.float64)
    return xp.astype((metric @ narrow[..., None])[..., 0], xp.float64)
