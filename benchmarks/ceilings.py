"""What this machine can do at best, measured: the limits that the kernels are compared with.

    copy, L1 / L2 / DRAM    GB/s read plus written, all cores at once, each on its own share
    triad, DRAM             a = b + s * c: GB/s of two reads and a write
    write, DRAM             GB/s of filling memory past the caches
    GEMM, DTYPE             GFLOP/s (for int8: operations) of a square product
    inflate                 GB/s of decompressed bytes, one core, the fastest library present
    launch                  microseconds of an empty kernel on CUDA

Of several ways and many rounds the best counts: a ceiling is what nothing here surpassed, not an average.
Copies and fills of DRAM are the C library's on every core, which writes past the caches where that pays;
triad is compiled by Numba with ordinary stores, for which the hardware reads each line that it overwrites.
``python -m benchmarks.ceilings`` prints them.
"""

from __future__ import annotations

import ctypes
import gzip
import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numba
import numpy as np

from benchmarks.interleave import timed
from kernels import backends
from kernels.threads import on_all_cores

CACHES_BYTES = {"L1": 24 << 10, "L2": 512 << 10}  # of one core: source and target of a copy together
DRAM_BYTES = 256 << 20  # each array
GEMM_SIZE = 2048

Call = Callable[[], Any]
Ceilings = dict[str, dict[str, Any]]


def measure(rounds: int = 15) -> Ceilings:
    """Return value and unit of every ceiling by name; ``rounds`` is how often each way is tried."""
    found: Ceilings = {}
    for name, unit, amount, calls in _trials():
        best = min(min(timed(call) for _ in range(rounds)) for call in calls)
        found[name] = {"value": amount / best / 1e9 if unit != "us" else best * 1e6, "unit": unit}
    return found


def _trials() -> Iterator[tuple[str, str, float, list[Call]]]:
    """Yield name, unit, bytes or operations, and the ways to do them."""
    for level, size in CACHES_BYTES.items():
        yield f"copy, {level}", "GB/s", *_cached_copy(size)
    yield from _memory()
    yield from _products()
    yield "inflate", "GB/s", *_inflations()
    if backends.has_cuda():
        yield "launch", "us", 1.0, [_launch()]


def _cached_copy(size: int) -> tuple[float, list[Call]]:
    """Copies that stay in each core's cache, so many that they outweigh the start of threads."""
    cores, repeats = backends.cpu_count(), (1 << 30) // size
    pairs = np.ones((cores, 2, size // 2 // 4), np.float32)
    call = _per_core(
        lambda core, _: _copy_repeatedly(*pairs[core], repeats), np.empty(cores << 20, np.float32)
    )
    call()
    return float(cores * repeats * size), [call]


def _memory() -> Iterator[tuple[str, str, float, list[Call]]]:
    source, target, third = (np.ones(DRAM_BYTES // 4, np.float32) for _ in range(3))

    def fill(core: int, share: slice) -> None:
        ctypes.memset(target[share].ctypes.data, 1, target[share].nbytes)

    copies = [_per_core(lambda core, share: np.copyto(target[share], source[share]), target)]
    if backends.is_available("torch"):
        import torch

        tensors = torch.from_numpy(target), torch.from_numpy(source)
        copies.append(lambda: tensors[0].copy_(tensors[1]))
    yield "copy, DRAM", "GB/s", 2.0 * DRAM_BYTES, copies
    yield "write, DRAM", "GB/s", 1.0 * DRAM_BYTES, [_per_core(fill, target)]
    triad = _per_core(lambda core, share: _triad(source[share], third[share], target[share]), target)
    triad()
    yield "triad, DRAM", "GB/s", 3.0 * DRAM_BYTES, [triad]


def _per_core(work: Callable[[int, slice], None], out: np.ndarray) -> Call:
    """Return a call that runs ``work(core, its share of out)`` on every core."""
    share = out.size // backends.cpu_count()
    return lambda: on_all_cores(lambda start, stop: work(start // share, slice(start, stop)), out)


@numba.njit(nogil=True, cache=True)
def _copy_repeatedly(source: np.ndarray, target: np.ndarray, repeats: int) -> None:
    for repeat in range(repeats):
        source[0] = repeat  # or the compiler would copy once
        for index in range(target.size):
            target[index] = source[index]


@numba.njit(nogil=True, cache=True)
def _triad(b: np.ndarray, c: np.ndarray, a: np.ndarray) -> None:
    for index in range(a.size):
        a[index] = b[index] + np.float32(3) * c[index]


def _products() -> Iterator[tuple[str, str, float, list[Call]]]:
    n = GEMM_SIZE
    A = np.random.default_rng(0).standard_normal((n, n))
    for dtype in ("float64", "float32"):
        B = A.astype(dtype)
        yield f"GEMM, {dtype}", "GFLOP/s", 2.0 * n**3, [lambda B=B: B @ B]  # type: ignore[misc]
    if not backends.is_available("torch"):
        return
    import torch

    X = torch.from_numpy(A)
    half = X.to(torch.bfloat16)
    yield "GEMM, bfloat16", "GFLOP/s", 2.0 * n**3, [lambda: half @ half]
    if backends.has_matrix_units():
        unsigned, signed = X.abs().to(torch.uint8), X.to(torch.int8)
        yield "GEMM, int8", "GFLOP/s", 2.0 * n**3, [lambda: torch._int_mm(unsigned, signed)]


def _inflations() -> tuple[float, list[Call]]:
    """The two fast libraries, on what inflates like pictures: the embedded digits, over and over."""
    from sklearn.datasets import load_digits

    data = np.tile(load_digits().data.astype(np.uint8).ravel(), 100).tobytes()
    packed = gzip.compress(data, 6)
    ways: list[Call] = [lambda: gzip.decompress(packed)]
    for library, function in (("isal.isal_zlib", "decompress"), ("deflate", "gzip_decompress")):
        try:
            decompress = getattr(importlib.import_module(library), function)
        except ImportError:
            continue
        ways.append(partial(decompress, packed, *([31] if library != "deflate" else [])))
    return float(len(data)), ways


def _launch() -> Call:
    """An empty kernel, and the wait for it."""
    if backends.is_available("cupy"):
        import cupy

        kernel = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")
        kernel((1,), (1,), ())
        return lambda: (kernel((1,), (1,), ()), cupy.cuda.get_current_stream().synchronize())
    import torch

    one = torch.zeros(1, device="cuda")
    return lambda: (one.zero_(), torch.cuda.synchronize())


def main() -> None:
    """Print every ceiling."""
    for name, ceiling in measure().items():
        print(f"  {name:20s} {ceiling['value']:9.1f} {ceiling['unit']}")


if __name__ == "__main__":
    main()
