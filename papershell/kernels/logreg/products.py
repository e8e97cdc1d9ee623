"""The rows of X on a device and the two products with them: logits, and their transpose.

X may stay uint8. Three routes multiply it with float weights and never make the scaled copy
(the scale is folded into the weights):

    float      blocks of rows converted to float32 or float64, BLAS
    integer    every weight an integer of ``pieces`` balanced base-256 digits (fixed point
               relative to its column's largest), every product exact in int32
    bfloat16   every weight the sum of ``pieces`` numbers of 8 bits, every product exact in
               float32, which they are added up in: `papershell.kernels.logreg.on_torch_cuda`

Three digits are float32 grade, six are float64 grade. Integer sums are exact, so the result
depends on no summation order, thread count or machine. Reference for products of pieces:
Ootomo, Ozaki, Yokota, "DGEMM on integer matrix multiplication unit" (2024), section 3; here
one operand is a byte already, which saves its splitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache, reduce
from operator import add
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from papershell.kernels.logreg.losses import Array, value_and_residual

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

SMALLEST_COLUMN = 1e-280  # a column below is zero; its digits' unit must not be subnormal
LARGEST_INTEGER_SUM = 65_536  # terms of 255 * 128 whose sum an int32 holds


def largest_fixed_point(pieces: int) -> int:
    """Return the largest integer that ``pieces`` balanced base-256 digits (-128..127) can write."""
    return 127 * (256**pieces - 1) // 255


def split_digits(W: np.ndarray, pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """Write the columns of ``W`` in fixed point.

    Parameters
    ----------
    W : (P, C) float64.
    pieces : digits a number; at most 6, which is 47 bits beside the sign.

    Returns
    -------
    digits : (P, pieces * C) int8, most significant piece first.
    unit : (C,) float64; ``sum_s digits[:, s*C:(s+1)*C] * 256**(pieces-1-s) * unit`` is W rounded.
    """
    largest = np.abs(W).max(axis=0, initial=0.0)
    unit = np.maximum(largest, SMALLEST_COLUMN) / largest_fixed_point(pieces)
    q = np.rint(W / unit).astype(np.int64)
    digits = np.empty((W.shape[0], pieces, W.shape[1]), np.int8)
    for piece in range(pieces - 1, -1, -1):
        digits[:, piece] = q  # the last eight bits, as a number from -128 to 127
        q = (q + 128) >> 8
    return digits.reshape(W.shape[0], -1), unit


def join_digits(sums: np.ndarray, pieces: int) -> np.ndarray:
    """Return the float64 numbers (..., C) that sums of digits (..., pieces * C) make, in units of the last."""
    shaped = sums.reshape(*sums.shape[:-1], pieces, -1).astype(np.float64)
    total = shaped[..., 0, :]
    for piece in range(1, pieces):
        total = total * 256.0 + shaped[..., piece, :]
    return total


def add_up(parts: Iterable[tuple[Array, ...]]) -> list[Array]:
    """Return the sum of every member of the parts, in the parts' order."""
    return [reduce(add, member) for member in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Samples:
    """The data of M problems that share their rows.

    Attributes
    ----------
    X : (N, P) uint8 or float.
    y : (N,) integer labels 0..K-1.
    weight : (F, N) float64, zero outside a fold.
    n_classes : K.
    loss : ``"multinomial"`` or ``"ovr"``.
    scale : the factor that X is to be multiplied by.
    fit_intercept : whether theta has a last column that a constant feature of one multiplies.
    """

    X: Array
    y: Array
    weight: Array
    n_classes: int
    loss: str
    scale: float
    fit_intercept: bool

    @property
    def width(self) -> int:
        """The columns of theta."""
        return self.X.shape[1] + self.fit_intercept

    def part(self, rows: slice | np.ndarray) -> Samples:
        """Return only these ``rows``."""
        return replace(self, X=self.X[rows], y=self.y[rows], weight=self.weight[:, rows])


@cache
def blas_libraries(engine: str) -> ThreadpoolController:
    """Return the BLAS libraries that the module ``engine`` finds loaded; looking for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@dataclass(frozen=True)
class Grade:
    """How precisely a pass computes.

    Attributes
    ----------
    precision : dtype of the products, or their number of pieces.
    floor : the max |gradient| of a mean objective below which a finer grade must be taken.
    noise : relative differences of the objective that this grade cannot see.
    """

    precision: str | int
    floor: float
    noise: float


FLOAT32 = Grade("float32", 1e-6, 1e-9)
FLOAT64 = Grade("float64", 0.0, 1e-14)


@dataclass
class Candidates:
    """Samples (n, Q) float32 in a few coordinates, of which Gram matrices are wanted."""

    xp: ModuleType
    rows: Array

    def gram(self, index: Array) -> Array:
        """Return the sum of x x' (..., Q, Q) over the rows ``index`` (..., n), in float64."""
        drawn = self.rows[index]
        return self.xp.astype(self.xp.moveaxis(drawn, -1, -2) @ drawn, self.xp.float64)

    def weighted_gram(self, weight: Array) -> Array:
        """Return the sum of x x' (..., Q, Q) over all rows by ``weight`` (..., n), in float64."""
        rows = self.xp.astype(self.rows, self.xp.float64)
        return (rows.T * weight[..., None, :]) @ rows


class FloatEngine:
    """The products by BLAS on blocks of rows, for any array namespace; the base of every engine.

    Parameters
    ----------
    samples : arrays of the host; the engine moves them to its device once.
    xp : array namespace.
    device : of the arrays, for namespaces that know several.
    """

    grades: tuple[Grade, ...] = (FLOAT32, FLOAT64)  # of the first passes, ..., of the last, float64 in all
    projection = FLOAT32  # of the coordinates that the metric is made in
    threads = 1
    look_every = 1  # passes between two looks of the iteration at its state
    block_bytes = 2 << 20  # logits of one block of rows: written, read and overwritten in a core's cache
    converted_bytes = 8 << 20  # of a block's rows as floats: each thread has a copy of one block at a time

    def __init__(self, samples: Samples, xp: ModuleType, device: Any = None):
        self.xp, self.samples = xp, samples
        self.on_device = {} if device is None else {"device": device}
        self.X, self.y, self.weight = map(self.array, (samples.X, samples.y, samples.weight.T.copy()))
        self.width = samples.width

    def array(self, values: np.ndarray) -> Array:
        """Return host ``values`` as an array of this engine's device."""
        return self.xp.asarray(values, **self.on_device)

    def constant(self, values: np.ndarray) -> Array:
        """Return host ``values`` as an array that nobody writes to; an engine of a device remembers it."""
        return self.array(values)

    def to_host(self, values: Array) -> np.ndarray:
        """Return ``values`` as a NumPy array."""
        return np.asarray(values)

    def map(self, function: Callable, items: Iterable) -> Iterable:
        """Apply ``function`` to ``items``, in order; engines with threads use them here."""
        return map(function, items)

    def one_blas_thread(self) -> AbstractContextManager:
        """Return a context in which BLAS uses one thread: engines bring their own, and small products lose on two."""
        return blas_libraries(type(self).__module__).limit(limits=1)

    def total(self, function: Callable[[slice], tuple[Array, ...]], blocks: list[slice]) -> list[Array]:
        """Return the sums of what ``function`` returns for each block; every thread adds up its own."""
        return add_up(self.map(lambda share: add_up(map(function, share)), self.shares(blocks)))

    def shares(self, blocks: list[slice]) -> list[list[slice]]:
        """Deal out the blocks to the threads, at most as many to a share as integers can sum."""
        most = LARGEST_INTEGER_SUM // (blocks[0].stop - blocks[0].start)
        size = min(-(-len(blocks) // self.threads), most)
        return [blocks[first : first + size] for first in range(0, len(blocks), size)]

    def blocks(self, bytes_per_row: int, converted_per_row: int = 0) -> list[slice]:
        """Cut the rows so that ``bytes_per_row`` of work space each stay in the cache, and converted rows few."""
        most = min(self.block_bytes // bytes_per_row, self.converted_bytes // max(1, converted_per_row))
        most = min(max(256, most), LARGEST_INTEGER_SUM)
        count = -(-self.X.shape[0] // most)
        if count > 1:
            count += -count % self.threads
        rows = -(-self.X.shape[0] // count)
        return [slice(first, first + rows) for first in range(0, self.X.shape[0], rows)]

    def rows(self, index: slice | Array, dtype: Any) -> Array:
        """Return the raw rows (n, P) at ``index`` in ``dtype``."""
        index = index if isinstance(index, slice) else self.array(index)
        return self.xp.astype(self.X[index], dtype, copy=False)

    def operand(self, W: Array, grade: Grade) -> Array:
        """Return weights (C, P) float64 as `product` takes them: rounded, or in pieces below each other."""
        return self.xp.astype(W, getattr(self.xp, str(grade.precision)))

    def product(self, A: Array, B: Array) -> Array:
        """Return A @ B."""
        return A @ B

    def join(self, Z: Array, columns: int) -> Array:
        """Return (n, C) from products (n, pieces * C) with the pieces of ``columns`` C numbers."""
        return Z if Z.shape[1] == columns else self.xp.sum(Z.reshape(Z.shape[0], -1, columns), axis=1)

    def loss_and_gradient(self, theta: Array, fold: Array, grade: Grade) -> tuple[Array, Array]:
        """Return the summed losses (A,) and their gradients (A, K, P + 1), without the penalty.

        Parameters
        ----------
        theta : (A, K, P + 1) float64; the last column is the intercept (absent without one).
        fold : (A,) row of the weights that each problem sums with.
        grade : one of ``grades``.
        """
        xp, P = self.xp, self.X.shape[1]
        W, bias = self.columns(theta)
        W = self.operand(W, grade)

        def block(index: slice) -> tuple[Array, Array, Array]:
            X = self.rows(index, W.dtype)
            loss, D, total = self.residual(self.product(X, W.T), bias, index, theta.shape[:2], fold)
            return loss, xp.astype(self.product(D.T, X), xp.float64), total

        value, gradient, total = self.total(block, self.blocks(W.shape[0] * 8, P * W.dtype.itemsize))
        gradient, edge = self.join(gradient.T, bias.shape[0]).T, total[:, None][:, : self.width - P]
        return value, self.by_problem(xp.concat([gradient * self.samples.scale, edge], axis=1), theta.shape)

    def columns(self, theta: Array) -> tuple[Array, Array]:
        """Return theta as weights of raw pixels (C, P) and intercepts (C,), class by class: C = K x A."""
        flat, P = self.xp.moveaxis(theta, 0, 1).reshape(-1, theta.shape[-1]), self.X.shape[1]
        bias = flat[:, P] if self.samples.fit_intercept else 0 * flat[:, 0]
        return flat[:, :P] * self.samples.scale, bias

    def by_problem(self, columns: Array, shape: tuple[int, int, int]) -> Array:
        """Return what belongs to the columns (C, P + 1) as (A, K, P + 1)."""
        A, K, width = shape
        moved = self.xp.moveaxis(columns.reshape(K, A, width), 0, 1)
        return moved.reshape(A, -1).reshape(shape)  # so in memory, too: inner products copy what is not

    def residual(self, Z: Array, bias: Array, index: slice, shape: tuple[int, int], fold: Array) -> tuple:
        """Return loss (A,), residual (n, C) in the dtype of ``Z`` and its sum over the rows (C,)."""
        xp = self.xp
        A, K = shape
        logits = xp.moveaxis((xp.astype(Z, xp.float64) + bias).reshape(-1, K, A), 1, 2)
        weight = self.weight[index][:, self.constant(fold)]
        loss, D = value_and_residual(xp, logits, self.onehot(index), weight, self.samples.loss)
        D = xp.moveaxis(D, 2, 1).reshape(Z.shape)
        return loss, xp.astype(D, Z.dtype), xp.sum(D, axis=0)

    def onehot(self, index: slice) -> Array:
        """Return the labels of a block as (n, 1, K) of zeros and ones."""
        classes = self.xp.arange(self.samples.n_classes, **self.on_device)
        return self.xp.astype(self.y[index][:, None, None] == classes, self.xp.float64)

    def project(self, V: Array) -> Array:
        """Return the samples, scaled, times ``V`` (P + 1, Q), as (n, Q) float32."""
        xp = self.xp
        W, bias = self.columns(V.T[None])
        W, bias = self.operand(W, self.projection), xp.astype(bias, xp.float32)

        def block(index: slice) -> Array:
            return self.join(self.product(self.rows(index, W.dtype), W.T), bias.shape[0]) + bias

        return xp.concat(list(self.map(block, self.blocks(W.shape[0] * 8, W.shape[1] * W.dtype.itemsize))))

    def candidates(self, V: Array) -> Candidates:
        """Return the samples in the coordinates ``V`` (P + 1, Q)."""
        return Candidates(self.xp, self.project(V))

    def covariance(self, index: slice | np.ndarray, share: np.ndarray) -> tuple[Array, Array]:
        """Return the mean of x x' (P, P) about the features' mean (P,) and that mean; see `centred`."""
        xp = self.xp
        X, mean = self.centred(index, share)
        X = xp.astype(X * xp.sqrt(self.array(share))[:, None], xp.float32)
        return xp.astype(X.T @ X, xp.float64), mean

    def centred(self, index: slice | np.ndarray, share: np.ndarray) -> tuple[Array, Array]:
        """Return the scaled rows ``index`` (n, P) less their mean (P,) in float64, and the mean.

        ``share`` (n,) are the rows' weights in the mean, which sum to one; without an intercept it is zero.
        """
        X = self.rows(index, self.xp.float64) * self.samples.scale
        mean = self.array(share) @ X * float(self.samples.fit_intercept)
        return X - mean, mean

    def inverse(self, matrix: Array) -> Array:
        """Return the inverse of a symmetric positive definite matrix, or of each in a stack."""
        return self.xp.linalg.inv(matrix)

    def batches(self, jobs: list[tuple[Array, ...]]) -> Iterable[tuple[Array, ...]]:
        """Return the arguments of jobs that are alike, those of as many stacked as this engine does at once."""
        return jobs
