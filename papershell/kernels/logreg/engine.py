"""The rows of X on a device, the logits that the iteration keeps, and the few operations on them.

`Engine` is the formulas against an array namespace, with BLAS products on blocks of rows; engines of a device
override single steps. The solver sees `work_on`, `set_logits`, `set_direction`, `slopes`, `gradient`, `release`
and, for the preconditioner, `product` and `covariance`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce
from operator import add
from types import ModuleType
from typing import Any

import numpy as np

from papershell.kernels.logreg.line_search import FLAT
from papershell.kernels.logreg.losses import Array, loss_and_residual, probabilities, slope_and_curvature
from papershell.kernels.logreg.problem import Problem, Samples
from papershell.kernels.logreg.products import LARGEST_INTEGER_SUM
from papershell.kernels.threads import one_blas_thread


@dataclass(frozen=True)
class Precision:
    """How precisely a pass computes.

    Attributes
    ----------
    product : dtype of the products, or their number of slices.
    logits : dtype of the logits that are kept.
    floor : the max |gradient| of a mean objective below which the next precision must be taken.
    noise : relative differences of the objective that this precision cannot see.
    """

    product: str | int
    logits: str
    floor: float
    noise: float


FLOAT32 = Precision("float32", "float32", 1e-6, 1e-9)
FLOAT64 = Precision("float64", "float64", 0.0, 1e-14)


@dataclass
class Kept:
    """What an engine keeps of one problem: labels, weights, logits Z (N, K) and those of its direction."""

    y: Array
    weight: Array
    Z: Array = None
    D: Array = None


def add_up(parts: Iterable[tuple[Array, ...]]) -> list[Array]:
    """Return the sum of every member of the parts, in the parts' order."""
    return list(reduce(lambda total, part: tuple(map(add, total, part)), parts))


class Engine:
    """The operations by BLAS and formulas on blocks of rows, for any array namespace; the base of every engine.

    Parameters
    ----------
    samples : the engine takes X where it lies, or moves it to its device once, and converts blocks of its rows.
    xp : array namespace.
    device : of the arrays, for namespaces that know several.
    """

    precisions: tuple[Precision, ...] = (FLOAT32, FLOAT64)  # of the first passes, ..., of the last: float64
    flat = FLAT  # a trial of a length costs no product
    threads = 1
    most_products = 1 << 31  # of the curvature by the intercepts
    block_bytes = 2 << 20  # logits of one block of rows: written, read and overwritten in a core's cache
    converted_bytes = 8 << 20  # of a block's rows as floats: each thread has a copy of one block at a time

    def __init__(self, samples: Samples, xp: ModuleType, device: Any = None):
        self.xp, self.samples = xp, samples
        self.on_device = {} if device is None else {"device": device}
        self.X = self.features(samples.X)
        self.center, self.factor = (
            None if a is None else self.array(a) for a in (samples.center, samples.factor)
        )
        self.kept: dict[int, Kept] = {}
        self.shared: dict[Any, Array] = {}  # labels by class and weights by fold, which problems share

    # What the solver calls

    def work_on(self, number: int, problem: Problem) -> None:
        """Prepare the problem ``number``."""
        self.kept[number] = Kept(
            self.shared_array(("y", problem.positive), lambda: problem.labels(self.samples.y)),
            self.shared_array(("w", problem.fold), lambda: self.samples.weight[problem.fold]),
        )

    def release(self, number: int) -> None:
        """Forget the problem ``number``."""
        del self.kept[number]

    def set_logits(self, numbers: list[int], theta: Array, precision: int) -> None:
        """Compute the logits of the problems at ``theta`` (A, K, P + 1) float64."""
        dtype = self.dtype(self.precisions[precision].logits)
        for number in numbers:
            kept, shape = self.kept[number], (self.X.shape[0], theta.shape[1])
            kept.Z, kept.D = (self.xp.zeros(shape, dtype=dtype, **self.on_device) for _ in range(2))
        self.product(theta, [self.kept[n].Z for n in numbers], precision)

    def set_direction(self, numbers: list[int], direction: Array, precision: int) -> None:
        """Compute the logits of the directions (A, K, P + 1)."""
        self.product(direction, [self.kept[n].D for n in numbers], precision)

    def slopes(self, numbers: list[int], lengths: np.ndarray) -> np.ndarray:
        """Return the losses' first and second derivatives (A, 2) at ``lengths`` (A,) along the directions."""
        return np.stack([self.slope(self.kept[n], float(t)) for n, t in zip(numbers, lengths, strict=True)])

    def gradient(self, numbers: list[int], lengths: np.ndarray, precision: int) -> tuple[np.ndarray, Array]:
        """Go ``lengths`` (A,) along the directions; return the summed losses (A,) and X' R (A, K, P + 1)."""
        works, P = [self.kept[n] for n in numbers], self.X.shape[1]
        shape = (len(works), works[0].Z.shape[1], self.samples.width)
        C = shape[0] * shape[1]

        def block(index: slice) -> tuple[Array, Array, Array]:
            found = [self.residual(work, float(t), index) for work, t in zip(works, lengths, strict=True)]
            losses, R, totals = zip(*found, strict=True)
            R = self.operand((R[0] if len(R) == 1 else self.xp.concat(R, axis=1)).T, precision)
            product = self.xp.astype(self.matmul(R, self.rows(index, R.dtype)), self.xp.float64)
            return self.xp.stack(losses), self.joined_slices(product, C), self.xp.concat(totals)

        loss, product, total = self.total(block, self.blocks(C * 8, P * 8))
        return self.to_host(loss), self.joined(product * self.samples.scale, total, shape)

    def logits(self, theta: np.ndarray) -> np.ndarray:
        """Return the logits (A, N, K) float64 of the points ``theta`` (A, K, P + 1), on the host."""
        shape, last = (len(theta), self.X.shape[0], theta.shape[1]), len(self.precisions) - 1
        Z = self.xp.zeros(shape, dtype=self.dtype("float64"), **self.on_device)
        self.product(self.array(theta), list(Z), last)
        return self.to_host(Z)

    def moments(self, number: int, shift: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the summed loss, the residuals' sums (K,) and their derivatives (K, K), the logits shifted by (K,).

        The derivatives are those of every few rows if the classes are many.
        """
        xp, work, moved = self.xp, self.kept[number], self.array(shift)
        K = work.Z.shape[1]
        every = -(-work.Z.shape[0] * K * K // self.most_products)

        def block(index: slice) -> tuple[Array, Array, Array]:
            Z, w = xp.astype(work.Z[index], xp.float64) + moved, work.weight[index]
            loss, R = loss_and_residual(xp, Z, work.y[index], w)
            p = probabilities(xp, Z[::every])
            weighted = p * (w[::every] * float(every))[:, None]
            second = -(weighted.T @ p)
            total = xp.sum(weighted, axis=0)
            return (
                loss,
                xp.sum(R, axis=0),
                second + (total[:, None] * xp.eye(K, dtype=xp.float64, **self.on_device)),
            )

        loss, sums, curvature = self.total(block, self.blocks(K * 16))
        return float(loss), self.to_host(sums), self.to_host(curvature)

    def shift(self, number: int, shift: np.ndarray) -> None:
        """Add ``shift`` (K,) to the kept logits."""
        self.kept[number].Z += self.array(shift)

    # Steps that engines override

    def array(self, values: Any) -> Array:
        """Return host ``values`` as an array of this engine's device."""
        return self.xp.asarray(values, **self.on_device)

    def features(self, X: Any) -> Any:
        """Return X, whose blocks of rows are arrays of this engine's device."""
        return self.array(X)

    def to_host(self, values: Array) -> np.ndarray:
        """Return ``values`` as a NumPy array."""
        return np.asarray(values)

    def map(self, function: Callable, items: Iterable) -> Iterable:
        """Apply ``function`` to ``items``, in order; engines with threads use them here."""
        return map(function, items)

    def limits(self) -> AbstractContextManager:
        """Return the context in which the engine is to be used."""
        return one_blas_thread()

    def operand(self, W: Array, precision: int) -> Array:
        """Return weights (C, P) as they are multiplied: rounded, or in slices below each other."""
        return self.xp.astype(W, self.dtype(self.precisions[precision].product), copy=False)

    def matmul(self, A: Array, B: Array) -> Array:
        """Return A @ B."""
        return A @ B

    def product(self, theta: Array, out: list[Array], precision: int) -> None:
        """Set the arrays ``out`` (N, K) to the rows times ``theta`` (A, K, P + 1) float64."""
        P = self.X.shape[1]
        flat = theta.reshape(-1, theta.shape[-1])
        W = self.operand(flat[:, :P] * self.samples.scale, precision)
        bias, K = flat[:, P] if self.samples.fit_intercept else None, theta.shape[1]

        def block(index: slice) -> None:
            Z = self.joined_slices(self.matmul(self.rows(index, W.dtype), W.T).T, flat.shape[0]).T
            Z = Z if bias is None else Z + bias
            for a, target in enumerate(out):
                target[index] = Z[:, a * K : (a + 1) * K]

        for _ in self.map(block, self.blocks(W.shape[0] * 8, P * W.dtype.itemsize)):
            pass

    def residual(self, work: Kept, t: float, index: slice) -> tuple[Array, Array, Array]:
        """Go ``t`` along the direction in the rows ``index``; return loss, residual (n, K) and its sums (K,)."""
        if t:
            work.Z[index] += t * work.D[index]
        Z = self.xp.astype(work.Z[index], self.xp.float64)
        loss, R = loss_and_residual(self.xp, Z, work.y[index], work.weight[index])
        return loss, R, self.xp.sum(R, axis=0)

    def slope(self, work: Kept, t: float) -> tuple[float, float]:
        """Return the first and second derivative of the loss at the length ``t``."""

        def block(index: slice) -> tuple[Array, Array]:
            Z, D = (self.xp.astype(part[index], self.xp.float64) for part in (work.Z, work.D))
            return slope_and_curvature(self.xp, Z + t * D, D, work.y[index], work.weight[index])

        first, second = self.total(block, self.blocks(work.Z.shape[1] * 16))
        return float(first), float(second)

    def covariance(self, index: np.ndarray, mean: np.ndarray) -> Array:
        """Return the mean of x x' (P, P) over the scaled rows ``index`` about ``mean`` (P,), as float64 on the host."""
        total = np.zeros((mean.size, mean.size))
        for rows in np.array_split(index, 1 + index.size // 1024):
            X = (self.samples.rows(rows) * np.float64(self.samples.scale) - mean).astype(np.float32)
            total += X.T @ X
        return total / index.size

    # What they share

    def dtype(self, name: str | int) -> Any:
        """Return the dtype ``name`` of the namespace."""
        found = getattr(self.xp, str(name))
        return np.dtype(found) if self.xp is np else found

    def shared_array(self, key: Any, make: Callable[[], np.ndarray]) -> Array:
        """Return the array of ``key``, made once."""
        if key not in self.shared:
            self.shared[key] = self.array(make())
        return self.shared[key]

    def rows(self, index: slice, dtype: Any) -> Array:
        """Return the features (n, P) of the rows at ``index`` in ``dtype``, not yet scaled."""
        X = self.X[index]
        if self.center is not None:
            X = (self.xp.astype(X, self.dtype("float64")) - self.center) * self.factor
        return self.xp.astype(X, dtype, copy=False)

    def joined_slices(self, product: Array, C: int) -> Array:
        """Return (C, n) from products (slices * C, n)."""
        return (
            product
            if product.shape[0] == C
            else self.xp.sum(product.reshape(-1, C, product.shape[1]), axis=0)
        )

    def joined(self, gradient: Array, total: Array, shape: tuple[int, int, int]) -> Array:
        """Return gradients (A, K, P + 1) of weights (C, P) and intercepts (C,)."""
        if self.samples.fit_intercept:
            gradient = self.xp.concat([gradient, total[:, None]], axis=1)
        return gradient.reshape(shape)

    def total(self, function: Callable[[slice], tuple[Array, ...]], blocks: list[slice]) -> list[Array]:
        """Return the sums of what ``function`` returns for each block; every thread adds up its own."""
        return add_up(self.map(lambda share: add_up(map(function, share)), self.shares(blocks)))

    def shares(self, blocks: list[slice]) -> Iterator[list[slice]]:
        """Deal out the blocks to the threads, at most as many to a share as integers can sum."""
        most = max(1, LARGEST_INTEGER_SUM // (blocks[0].stop - blocks[0].start))
        size = min(-(-len(blocks) // self.threads), most)
        return (blocks[first : first + size] for first in range(0, len(blocks), size))

    def blocks(self, bytes_per_row: int, converted_per_row: int = 0) -> list[slice]:
        """Cut the rows so that ``bytes_per_row`` of work space each stay in the cache, and converted rows few."""
        most = min(self.block_bytes // bytes_per_row, self.converted_bytes // max(1, converted_per_row))
        most = min(max(256, most), LARGEST_INTEGER_SUM)
        N = self.X.shape[0]
        count = -(-N // most)
        if count > 1:
            count += -count % self.threads
        rows = -(-N // count)
        return [slice(first, min(first + rows, N)) for first in range(0, N, rows)]
