"""Products of bytes by PyTorch, which calls oneDNN, exact in 32 bits on a CPU with VNNI or AMX."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import local
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from papershell.kernels import threads
from papershell.kernels.backends import BackendError, cpu_count, has_matrix_units
from papershell.kernels.logreg.products import LARGEST_INTEGER_SUM
from papershell.kernels.placement import shared_tensor

VECTOR = 16  # 32-bit sums in a register
GRAM_ROWS = 1024  # multiplied at a time: they and their packed copy stay in a core's cache


@cache
def is_available() -> bool:
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


def columns(C: int) -> int:
    """Return how many columns a product of C columns has: whole vectors; 30 take twice the time of 32."""
    return -(-C // VECTOR) * VECTOR


def pack(digits: np.ndarray) -> torch.Tensor:
    """Return weights (P, C) int8 as `product` takes them."""
    return torch.from_numpy(np.pad(digits, ((0, 0), (0, columns(digits.shape[1]) - digits.shape[1]))))


def product(X: np.ndarray, weights: torch.Tensor, out: np.ndarray) -> None:
    """Set ``out`` (n, >= C) int32 to X (n, P) of bytes times weights (`pack`)."""
    torch._int_mm(shared_tensor(X).contiguous(), weights, out=torch.from_numpy(out))


class Sums:
    """See `on_bytes.Sums`."""

    def __init__(self, P: int, C: int, rows: int):
        self.C, self.digits = C, np.zeros((rows, columns(C)), np.int8)
        self.sums = torch.zeros((P, columns(C)), dtype=torch.int32)
        self.part = torch.empty_like(self.sums)

    def add(self, X: np.ndarray) -> None:
        """Add X (n, P) of bytes times the first n rows of `digits`."""
        D = torch.from_numpy(self.digits[: len(X)])
        self.sums += torch._int_mm(transpose(shared_tensor(X).contiguous()), D, out=self.part)

    def total(self) -> np.ndarray:
        """Return the sums (P, C)."""
        return self.sums[:, : self.C].numpy()


_prepared = local()


def run_alone() -> None:
    """Let the calling thread of a pool run PyTorch's products alone; no other thread's setting changes."""
    if not getattr(_prepared, "done", False):
        torch.zeros(1 << 16).sum()  # from here on PyTorch leaves this thread's OpenMP setting alone
        threadpool_limits(1, user_api="openmp")
        _prepared.done = True


def task(function: Callable) -> Callable:
    """Return ``function`` as a task of the pool."""

    def alone(argument: Any) -> Any:
        run_alone()
        return function(argument)

    return alone


def gram(X: np.ndarray) -> np.ndarray:
    """Return X'X (P, P) of bytes (N, P), exact in float64: X'X = X'(X - 128) + 128 (column sums) 1'.

    Raises
    ------
    BackendError
        This processor has no exact integer products (`is_available`).
    """
    if not is_available():
        raise BackendError("this processor has no fast exact byte products (VNNI or AMX)")
    blocks = [shared_tensor(X[first : first + GRAM_ROWS]) for first in range(0, len(X), GRAM_ROWS)]
    share = min(max(1, -(-len(blocks) // cpu_count())), LARGEST_INTEGER_SUM // GRAM_ROWS)
    shares = [blocks[first : first + share] for first in range(0, len(blocks), share)]
    found, half = np.zeros((X.shape[1], X.shape[1])), first_half(X.shape[1])
    for part in threads.pool().map(task(gram_of_blocks), shares):
        found += part
    found[half:, :half] = found[:half, half:].T
    return found


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
