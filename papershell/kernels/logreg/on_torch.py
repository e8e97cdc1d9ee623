"""PyTorch: exact integer products on a CPU with VNNI or AMX; CUDA is `papershell.kernels.logreg.on_torch_cuda`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import local
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from papershell.kernels import threads
from papershell.kernels.backends import BackendError, cpu_count, has_matrix_units, torch_has_cuda
from papershell.kernels.logreg import engine, on_numba
from papershell.kernels.logreg.engine import Precision, add_up
from papershell.kernels.logreg.problem import Samples
from papershell.kernels.logreg.products import (
    LARGEST_INTEGER_SUM,
    join_digits,
    largest_fixed_point,
    split_digits,
)
from papershell.kernels.placement import shared_tensor

VECTOR = 16  # 32-bit sums in a register
GRAM_ROWS = 1024  # multiplied at a time: they and their packed copy stay in a core's cache


@cache
def integer_products_are_exact() -> bool:
    """Return whether products of uint8 or int8 with int8 are fast and exact here: VNNI or AMX, and a probe says so.

    Without those units oneDNN adds pairs of products in 16 bits, which saturate.
    """
    if not has_matrix_units():
        return False
    X = np.random.default_rng(0).integers(0, 256, (97, 301), dtype=np.uint8)
    X[:, :64] = 255
    W = np.full((301, 48), 127, np.int8)
    try:
        product = torch._int_mm(torch.from_numpy(X), torch.from_numpy(W)).numpy()
        transposed = torch._int_mm(
            torch.from_numpy(X).T, torch.from_numpy(np.full((97, 48), -128, np.int8))
        ).numpy()
        signed = torch._int_mm(torch.from_numpy(X.view(np.int8)), torch.from_numpy(W)).numpy()
    except RuntimeError:
        return False
    return all(
        np.array_equal(found[:, 0], rows.astype(np.int64).sum(axis=axis) * weight)
        for found, rows, axis, weight in (
            (product, X, 1, 127), (transposed, X, 0, -128), (signed, X.view(np.int8), 1, 127),
        )
    )  # fmt: skip


def transpose(X: torch.Tensor) -> torch.Tensor:
    """Return X' of rows (N, P); oneDNN misreads the strides of a single column's transpose."""
    return X.T if X.shape[1] > 1 else X.reshape(1, -1)


def padded_digits(W: np.ndarray, slices: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return `split_digits` with columns of zeros up to whole vectors: oneDNN takes 30 columns twice the time of 32."""
    digits, unit = split_digits(W, slices)
    return torch.from_numpy(np.pad(digits, ((0, 0), (0, -digits.shape[1] % VECTOR)))), unit


_prepared = local()


def run_alone() -> None:
    """Let the calling thread of a pool run PyTorch's products alone; no other thread's setting changes."""
    if not getattr(_prepared, "done", False):
        torch.zeros(1 << 16).sum()  # from here on PyTorch leaves this thread's OpenMP setting alone
        threadpool_limits(1, user_api="openmp")
        _prepared.done = True


def alone(function: Callable) -> Callable:
    """Return ``function`` as a task of the pool."""

    def task(argument: Any) -> Any:
        run_alone()
        return function(argument)

    return task


class IntegerEngine(on_numba.Engine):
    """Exact products of bytes with weights in fixed point; X is never converted nor copied."""

    precisions = (
        Precision(2, "float32", 1e-5, 1e-6),
        Precision(3, "float32", 1e-6, 1e-9),
        Precision(6, "float64", 0.0, 1e-14),
    )

    def __init__(self, samples: Samples):
        super().__init__(samples)
        self.bytes = shared_tensor(samples.X)
        self.largest_weight = float(samples.weight.max(initial=0.0))

    def map(self, function, items):
        """See `engine.Engine.map`."""
        return super().map(alone(function), items)

    def product(self, theta, out, precision):
        """See `engine.Engine.product`; exact sums of products with the weights in fixed point."""
        P, flat = self.X.shape[1], theta.reshape(-1, theta.shape[-1])
        bias = flat[:, P].copy() if self.samples.fit_intercept else np.zeros(len(flat))
        self.multiply(flat[:, :P].T * self.samples.scale, int(self.precisions[precision].product), bias, out)

    def multiply(self, W: np.ndarray, slices: int, bias: np.ndarray, out: list[np.ndarray]) -> None:
        """Set ``out`` (N, K), together C columns, to the rows of raw bytes times ``W`` (P, C) plus ``bias`` (C,).

        The sums are exact; what is rounded is ``W``, to so many slices, and the result.
        """
        weights, unit = padded_digits(W, slices)
        K = out[0].shape[1]

        def share(blocks: list[slice]) -> None:
            Z = torch.empty((blocks[0].stop - blocks[0].start, weights.shape[1]), dtype=torch.int32)
            for index in blocks:
                X = self.bytes[index].contiguous()
                z = torch._int_mm(X, weights, out=Z[: len(X)]).numpy()
                for a, target in enumerate(out):
                    on_numba.join_sums(z, slices, unit, bias, a * K, target[index])

        list(self.map(share, self.shares(self.blocks(len(W) + 4 * weights.shape[1]))))

    def gradient(self, numbers, lengths, precision):
        """See `engine.Engine.gradient`; the residuals in fixed point, and their sums exact."""
        slices, works, P = (
            int(self.precisions[precision].product),
            [self.kept[n] for n in numbers],
            self.X.shape[1],
        )
        A, K = len(works), works[0].Z.shape[1]
        C = A * K
        width = -(-slices * C // VECTOR) * VECTOR
        unit = self.largest_weight / largest_fixed_point(slices)

        def share(blocks: list[slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            loss, total = np.zeros(A), np.zeros((A, K))
            D = torch.zeros((blocks[0].stop - blocks[0].start, width), dtype=torch.int8)
            sums = torch.zeros((P, width), dtype=torch.int32)
            part = torch.empty_like(sums)
            for index in blocks:
                X = self.bytes[index].contiguous()
                d = D[: len(X)]
                for a, (work, t) in enumerate(zip(works, lengths, strict=True)):
                    loss[a] += on_numba.residuals(
                        work.Z[index], work.D[index], float(t), work.y[index], work.weight[index],
                        d.numpy(), a * K, C, slices, unit, total[a],
                    )  # fmt: skip
                sums += torch._int_mm(transpose(X), d, out=part)
            return loss, sums[:, : slices * C].double().numpy(), total

        loss, sums, total = add_up(self.map(share, self.shares(self.blocks(P + 5 * width))))
        gradient = join_digits(sums, slices).T * (unit * self.samples.scale)
        return loss, self.joined(gradient, total.reshape(-1) * unit, (A, K, self.samples.width))

    def covariance(self, index, mean):
        """See `engine.Engine.covariance`; from the exact Gram matrix."""
        rows, scale = self.X[index], self.samples.scale
        if rows.dtype == np.int8:  # x + 128 about mean + 128
            rows, mean = rows.view(np.uint8) ^ 128, mean + 128 * scale
        sums = rows.sum(axis=0, dtype=np.int64) * scale / len(rows)
        gram = integer_gram(rows) * (scale**2 / len(rows))
        return gram - np.outer(mean, sums) - np.outer(sums, mean) + np.outer(mean, mean)


def integer_gram(X: np.ndarray) -> np.ndarray:
    """Return X'X (P, P) of bytes (N, P), exact in float64: X'X = X'(X - 128) + 128 (column sums) 1'.

    Raises
    ------
    BackendError
        This processor has no exact integer products (`integer_products_are_exact`).
    """
    if not integer_products_are_exact():
        raise BackendError("this processor has no fast exact byte products (VNNI or AMX)")
    blocks = [shared_tensor(X[first : first + GRAM_ROWS]) for first in range(0, len(X), GRAM_ROWS)]
    share = min(max(1, -(-len(blocks) // cpu_count())), LARGEST_INTEGER_SUM // GRAM_ROWS)
    shares = [blocks[first : first + share] for first in range(0, len(blocks), share)]
    gram, half = np.zeros((X.shape[1], X.shape[1])), first_half(X.shape[1])
    for part in threads.pool().map(alone(gram_of_blocks), shares):
        gram += part
    gram[half:, :half] = gram[:half, half:].T
    return gram


def gram_of_blocks(blocks: list[torch.Tensor]) -> np.ndarray:
    """Return the Gram matrix of at most `LARGEST_INTEGER_SUM` rows, but for the quarter below `first_half`."""
    P = blocks[0].shape[1]
    half = first_half(P)
    products, sums = torch.zeros(P, P, dtype=torch.int32), torch.zeros(P, 1, dtype=torch.int32)
    for rows in blocks:
        signed = (rows ^ 128).view(torch.int8)
        products[:, half:] += torch._int_mm(transpose(rows), signed[:, half:])
        if half:
            products[:half, :half] += torch._int_mm(transpose(rows[:, :half]), signed[:, :half])
        sums += torch._int_mm(transpose(rows), torch.ones(len(rows), 1, dtype=torch.int8))
    return products.numpy() + 128.0 * sums.numpy()


def first_half(P: int) -> int:
    """Return how many columns make the first half of P, whole vectors of them; none where P is small."""
    return P // 2 // 64 * 64


def Engine(samples: Samples) -> engine.Engine:
    """Return the engine for this machine and these samples."""
    if torch_has_cuda():
        from papershell.kernels.logreg import on_torch_cuda

        return on_torch_cuda.Engine(samples)
    if (
        samples.X.dtype in (np.uint8, np.int8)
        and samples.X.shape[1] <= LARGEST_INTEGER_SUM
        and integer_products_are_exact()
    ):
        return IntegerEngine(samples)
    return on_numba.Engine(samples)
