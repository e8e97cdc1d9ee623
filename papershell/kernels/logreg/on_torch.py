"""PyTorch: exact integer products on a CPU with VNNI or AMX; CUDA is `papershell.kernels.logreg.on_torch_cuda`."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from papershell.kernels.backends import BackendError, cpu_count, has_matrix_units
from papershell.kernels.logreg import on_numba
from papershell.kernels.logreg.products import (
    LARGEST_INTEGER_SUM,
    Candidates,
    FloatEngine,
    Grade,
    Samples,
    add_up,
    join_digits,
    largest_fixed_point,
    split_digits,
)

PROJECTION_PIECES = 2
VECTOR = 16  # 32-bit sums in a register
GRAM_ROWS = 1024  # multiplied at a time: they and their packed copy stay in a core's cache


@cache
def integer_products_are_exact() -> bool:
    """Return whether uint8 x int8 products are fast and exact here: VNNI or AMX, and a probe that says so.

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
    except RuntimeError:
        return False
    exact = np.array_equal(product[:, 0], X.astype(np.int64).sum(axis=1) * 127)
    return exact and np.array_equal(transposed[:, 0], X.astype(np.int64).sum(axis=0) * -128)


def shared(X: np.ndarray) -> torch.Tensor:
    """Return a tensor on the memory of ``X``, which is only read: a read-only array will do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(X)


def transpose(X: torch.Tensor) -> torch.Tensor:
    """Return X' of rows (N, P); oneDNN misreads the strides of a single column's transpose."""
    return X.T if X.shape[1] > 1 else X.reshape(1, -1)


def padded_digits(W: np.ndarray, pieces: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return `split_digits` with columns of zeros up to whole vectors: oneDNN takes 30 columns twice the time of 32."""
    digits, unit = split_digits(W, pieces)
    return torch.from_numpy(np.pad(digits, ((0, 0), (0, -digits.shape[1] % VECTOR)))), unit


def run_alone() -> None:
    """Let the calling thread of a pool run PyTorch's products alone; no other thread's setting changes."""
    torch.zeros(1 << 16).sum()  # from here on PyTorch leaves this thread's OpenMP setting alone
    threadpool_limits(1, user_api="openmp")


class ByteCandidates(Candidates):
    """Candidates rounded to bytes, each coordinate relative to its largest; their Gram matrices are exact."""

    def __init__(self, rows: np.ndarray):
        super().__init__(np, rows)
        unit = np.maximum(np.abs(rows).max(axis=0), np.finfo(np.float32).tiny) / 127.0
        self.bytes = np.rint(rows / unit).astype(np.int8)
        self.units = np.outer(unit, unit).astype(np.float64)

    def gram(self, index: np.ndarray) -> np.ndarray:
        """See `Candidates.gram`."""
        drawn = torch.from_numpy(self.bytes[index])
        return torch._int_mm(transpose(drawn), drawn).numpy() * self.units


class IntegerEngine(on_numba.Engine):
    """Exact products of bytes with weights in fixed point; X is never converted nor copied."""

    grades = (Grade(2, 1e-4, 1e-5), Grade(3, 1e-6, 1e-9), Grade(6, 0.0, 1e-14))

    def __init__(self, samples: Samples):
        super().__init__(samples)
        self.bytes = shared(np.ascontiguousarray(samples.X))
        self.largest_weight = float(samples.weight.max(initial=0.0))

    def start_thread(self) -> None:
        """See `Engine.start_thread`."""
        run_alone()

    def loss_and_gradient(self, theta, fold, grade):
        """See `FloatEngine.loss_and_gradient`."""
        pieces = grade.precision
        (A, K, _), P = theta.shape, self.X.shape[1]
        W, bias = self.columns(theta)
        weights, unit = padded_digits(W.T, pieces)
        unit_out = self.largest_weight / largest_fixed_point(pieces)
        blocks = self.blocks(self.bytes.shape[1] + 5 * weights.shape[1])

        def share(blocks: list[slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            loss, total, ovr = np.zeros(A), np.zeros(bias.size), self.samples.loss == "ovr"
            Z = torch.empty((blocks[0].stop - blocks[0].start, weights.shape[1]), dtype=torch.int32)
            D = torch.zeros(Z.shape, dtype=torch.int8)
            sums = torch.zeros((P, weights.shape[1]), dtype=torch.int32)
            part = torch.empty_like(sums)
            for index in blocks:
                X = self.bytes[index]
                z, d = Z[: len(X)], D[: len(X)]
                torch._int_mm(X, weights, out=z)
                y, weight = self.y[index], self.weight[index]
                on_numba._residual(
                    z.numpy(), pieces, unit, bias, y, weight, fold, ovr, d.numpy(), unit_out, loss, total
                )
                sums += torch._int_mm(transpose(X), d, out=part)
            return loss, sums[:, : pieces * bias.size].double().numpy(), total

        value, sums, total = add_up(self.map(share, self.shares(blocks)))
        gradient = np.empty((A * K, self.width))
        gradient[:, :P] = join_digits(sums, pieces).T * (unit_out * self.samples.scale)
        gradient[:, P:] = total[:, None] * unit_out
        return value, self.by_problem(gradient, theta.shape)

    def candidates(self, V):
        """See `FloatEngine.candidates`."""
        return ByteCandidates(self.project(V))

    def project(self, V):
        """See `FloatEngine.project`; with 16 bits of ``V`` relative to each column's largest."""
        W, bias = self.columns(V.T[None])
        Z = self.multiply(W.T, PROJECTION_PIECES)
        Z += bias.astype(np.float32)
        return Z

    def multiply(self, W: np.ndarray, pieces: int, out: np.ndarray | None = None) -> np.ndarray:
        """Return the rows of raw bytes times ``W`` (P, C) float64, as (n, C) float32, in ``out`` if given.

        The sums are exact; what is rounded is ``W``, to ``pieces`` digits, and the result.
        """
        weights, unit = padded_digits(W, pieces)
        out = np.empty((len(self.bytes), unit.size), np.float32) if out is None else out
        blocks = self.blocks(self.bytes.shape[1] + 4 * weights.shape[1])

        def share(blocks: list[slice]) -> None:
            Z = torch.empty((blocks[0].stop - blocks[0].start, weights.shape[1]), dtype=torch.int32)
            for index in blocks:
                X = self.bytes[index]
                torch._int_mm(X, weights, out=Z[: len(X)])
                on_numba.join_sums(Z.numpy(), pieces, unit, out[index])

        list(self.map(share, self.shares(blocks)))
        return out

    def covariance(self, index, share):
        """See `FloatEngine.covariance`; from the exact Gram matrix where the rows weigh the same."""
        if np.ptp(share):
            return super().covariance(index, share)
        rows, scale = self.X[index], self.samples.scale
        mean = rows.mean(axis=0, dtype=np.float64) * float(self.samples.fit_intercept)
        return (integer_gram(rows) / len(rows) - np.outer(mean, mean)) * scale**2, mean * scale


def integer_gram(X: np.ndarray) -> np.ndarray:
    """Return X'X (P, P) of bytes (N, P), exact in float64: X'X = X'(X - 128) + 128 (column sums) 1'.

    Raises
    ------
    BackendError
        This processor has no exact integer products (`integer_products_are_exact`).
    """
    if not integer_products_are_exact():
        raise BackendError("this processor has no fast exact byte products (VNNI or AMX)")
    blocks = [shared(X[first : first + GRAM_ROWS]) for first in range(0, len(X), GRAM_ROWS)]
    share = min(max(1, -(-len(blocks) // cpu_count())), LARGEST_INTEGER_SUM // GRAM_ROWS)
    shares = [blocks[first : first + share] for first in range(0, len(blocks), share)]
    gram, half = np.zeros((X.shape[1], X.shape[1])), first_half(X.shape[1])
    with ThreadPoolExecutor(cpu_count(), initializer=run_alone) as pool:
        for part in pool.map(gram_of_blocks, shares):
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


def Engine(samples: Samples) -> FloatEngine:
    """Return the engine for this machine and these samples."""
    if torch.cuda.is_available():
        from papershell.kernels.logreg import on_torch_cuda

        return on_torch_cuda.Engine(samples)
    if (
        samples.X.dtype == np.uint8
        and samples.X.shape[1] <= LARGEST_INTEGER_SUM
        and integer_products_are_exact()
    ):
        return IntegerEngine(samples)
    return on_numba.Engine(samples)
