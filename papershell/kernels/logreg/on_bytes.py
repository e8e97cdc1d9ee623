"""CPU engine of bytes: exact products with weights in fixed point, and the fused passes of Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from papershell.kernels.logreg import on_cpu
from papershell.kernels.logreg.engine import Precision, add_up
from papershell.kernels.logreg.problem import Samples
from papershell.kernels.logreg.products import (
    LARGEST_INTEGER_SUM,
    join_digits,
    largest_fixed_point,
    split_digits,
)


class Sums(Protocol):
    """Sums X'D (P, C) over rows that are added a block at a time, at most `LARGEST_INTEGER_SUM` of them.

    Attributes
    ----------
    digits : (rows of a block, >= C) int8, where D of the next block is put; the other columns are zero.
    """

    digits: np.ndarray

    def add(self, X: np.ndarray) -> None:
        """Add X' (P, n) times the first n rows of `digits`."""

    def total(self) -> np.ndarray:
        """Return the sums (P, C)."""


class ByteProducts(Protocol):
    """Exact products of bytes: the modules `vnni` and `onednn` of this folder."""

    def columns(self, C: int) -> int:
        """Return how many columns a product of C columns has room for."""

    def pack(self, digits: np.ndarray) -> Any:
        """Return weights (P, C) int8 as `product` takes them."""

    def product(self, X: np.ndarray, weights: Any, out: np.ndarray) -> None:
        """Set ``out`` (n, `columns`) int32 to X (n, P) times weights."""

    def Sums(self, P: int, C: int, rows: int) -> Sums:
        """Return sums for blocks of at most so many rows."""

    def gram(self, X: np.ndarray) -> np.ndarray:
        """Return X'X (P, P) of uint8, exact in float64."""

    def task(self, function: Callable) -> Callable:
        """Return ``function`` as a task of the pool."""


def can_take(samples: Samples, *dtypes: type) -> bool:
    """Return whether X is of one of these types, and sums over its features fit 32 bits."""
    return samples.X.dtype in dtypes and samples.X.shape[1] <= LARGEST_INTEGER_SUM


class Engine(on_cpu.Engine):
    """Exact products of bytes with weights in fixed point; X is never converted nor copied."""

    precisions = (
        Precision(2, "float32", 1e-5, 1e-6),
        Precision(3, "float32", 1e-6, 1e-9),
        Precision(6, "float64", 0.0, 1e-14),
    )

    def __init__(self, samples: Samples, products: ByteProducts):
        super().__init__(samples)
        self.products = products
        self.largest_weight = float(samples.weight.max(initial=0.0))

    def map(self, function, items):
        """See `engine.Engine.map`."""
        return super().map(self.products.task(function), items)

    def product(self, theta, out, precision):
        """See `engine.Engine.product`; exact sums of products with the weights in fixed point."""
        P, flat = self.X.shape[1], theta.reshape(-1, theta.shape[-1])
        bias = flat[:, P].copy() if self.samples.fit_intercept else np.zeros(len(flat))
        self.multiply(flat[:, :P].T * self.samples.scale, int(self.precisions[precision].product), bias, out)

    def multiply(self, W: np.ndarray, slices: int, bias: np.ndarray, out: list[np.ndarray]) -> None:
        """Set ``out`` (N, K), together C columns, to the rows of raw bytes times ``W`` (P, C) plus ``bias`` (C,).

        The sums are exact; what is rounded is ``W``, to so many slices, and the result.
        """
        digits, unit = split_digits(W, slices)
        weights, width = self.products.pack(digits), self.products.columns(digits.shape[1])
        K = out[0].shape[1]

        def share(blocks: list[slice]) -> None:
            room = np.empty((blocks[0].stop - blocks[0].start, width), np.int32)
            for index in blocks:
                X = self.block(index)
                z = room[: len(X)]
                self.products.product(X, weights, z)
                for a, target in enumerate(out):
                    on_cpu.join_sums(z, slices, unit, bias, a * K, target[index])

        list(self.map(share, self.shares(self.blocks(len(W) + 4 * width))))

    def gradient(self, numbers, lengths, precision):
        """See `engine.Engine.gradient`; the residuals in fixed point, and their sums exact."""
        slices, works = int(self.precisions[precision].product), [self.kept[n] for n in numbers]
        A, K, P = len(works), works[0].Z.shape[1], self.X.shape[1]
        C = A * K
        unit = self.largest_weight / largest_fixed_point(slices)

        def share(blocks: list[slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            loss, total = np.zeros(A), np.zeros((A, K))
            sums = self.products.Sums(P, slices * C, blocks[0].stop - blocks[0].start)
            for index in blocks:
                X = self.block(index)
                for a, (work, t) in enumerate(zip(works, lengths, strict=True)):
                    loss[a] += on_cpu.residuals(
                        work.Z[index], work.D[index], float(t), work.y[index], work.weight[index],
                        sums.digits[: len(X)], a * K, C, slices, unit, total[a],
                    )  # fmt: skip
                sums.add(X)
            return loss, sums.total().astype(np.float64), total

        loss, sums, total = add_up(self.map(share, self.shares(self.blocks(P + 5 * slices * C))))
        gradient = join_digits(sums, slices).T * (unit * self.samples.scale)
        return loss, self.joined(gradient, total.reshape(-1) * unit, (A, K, self.samples.width))

    def covariance(self, index, mean):
        """See `engine.Engine.covariance`; from the exact Gram matrix."""
        rows, scale = self.X[index], self.samples.scale
        if rows.dtype == np.int8:  # x + 128 about mean + 128
            rows, mean = rows.view(np.uint8) ^ 128, mean + 128 * scale
        sums = rows.sum(axis=0, dtype=np.int64) * scale / len(rows)
        gram = self.products.gram(rows) * (scale**2 / len(rows))
        return gram - np.outer(mean, sums) - np.outer(sums, mean) + np.outer(mean, mean)

    def block(self, index: slice) -> np.ndarray:
        """Return rows of X, each beside the next in memory."""
        return np.ascontiguousarray(self.X[index])
