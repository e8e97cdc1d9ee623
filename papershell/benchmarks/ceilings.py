"""The limits of this machine, measured: the best rates, with which the kernels are compared.

    copy, L1 / L2 / DRAM    GB/s read plus written, all cores at once, each on its own share
    triad, DRAM             a = b + s * c: GB/s of two reads and a write
    write, DRAM             GB/s of filling memory past the caches
    widen 4 / 8, DRAM       GB/s of one byte read for four or eight written, as from bytes to float32 or float64
    copy / widen, new pages the same into memory that was just allocated: the kernel must map and clear each page
    GEMM, DTYPE             GFLOP/s (for int8: operations) of a square product
    inflate                 GB/s of decompressed bytes, one core, the fastest library present
    inflate, all cores      the same on every core at once, each inflating a stream of its own
    launch                  microseconds of an empty kernel on CUDA, and the wait for it

Those of a CUDA device have ``on the GPU`` in their names; not yet run on a GPU.
Of several ways and many rounds the best counts: a ceiling is the highest rate seen, not an average. A kernel that
surpasses it has shown a higher rate, which is the ceiling then: no share is above 100 %. Inflating depends on the data:
MNIST's pixels if they are there, else the embedded digits.
Copies and fills of DRAM are the C library's on every core, which writes past the caches if that pays;
triad is compiled by Numba with ordinary stores, for which the hardware reads each line that it overwrites.

All are measured when a run starts, and the one that bounds a case once more in its rounds: on a shared machine
memory bandwidth halves and doubles within minutes. The better of the two counts (`papershell.benchmarks.measure`).
``python -m papershell.benchmarks.ceilings`` prints them.
"""

from __future__ import annotations

import ctypes
import gzip
import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numba
import numpy as np

from papershell.benchmarks.interleave import timed
from papershell.kernels import backends
from papershell.kernels.threads import on_all_cores, pool

CACHES_BYTES = {"L1": 24 << 10, "L2": 512 << 10}  # of one core: source and target of a copy together
DRAM_BYTES = 128 << 20  # each array; as much traffic as MNIST's normalization makes
GEMM_SIZE = 2048
GPU = " on the GPU"
GPU_GEMM_SIZE = 8192

NEW_PAGES = "new pages"
MEMORY = (
    *("copy, L1", "copy, L2", "copy, DRAM", "triad, DRAM", "write, DRAM", "widen 4, DRAM", "widen 8, DRAM"),
    *(f"{kind}, {NEW_PAGES}" for kind in ("copy", "widen 4", "widen 8")),
)
INFLATE = ("inflate", "inflate, all cores")
KNOWN = (*MEMORY, "GEMM, float64", "GEMM, float32", "GEMM, bfloat16", "GEMM, int8", *INFLATE, "launch")
INFLATED_BYTES = 4 << 20

Call = Callable[[], Any]


@dataclass(frozen=True)
class Trial:
    """A way to reach a ceiling: ``amount`` bytes or operations in each of ``calls``, which differ in how."""

    unit: str
    amount: float
    calls: list[Call]

    def rate(self, seconds: float) -> float:
        """Return the ceiling, in its unit, from the seconds of a call."""
        return 1e6 * seconds if self.unit == "us" else self.amount / seconds / 1e9

    def fastest(self) -> Call:
        """Return the call that takes least."""
        return min(self.calls, key=lambda call: min(timed(call) for _ in range(3)))


def on_device(name: str, device: str) -> str:
    """Return the ceiling on ``device``, cpu or cuda, in place of ``name``; all of a GPU's memory has one."""
    if device != "cuda":
        return name
    return f"copy, DRAM{GPU}" if name in MEMORY else f"{name}{GPU}"


def measure(rounds: int = 15) -> dict[str, dict[str, Any]]:
    """Return value and unit of every ceiling by name; ``rounds`` is how often each way is tried."""
    found = {}
    for name in names():
        trial = make(name)
        seconds = min(min(timed(call) for _ in range(rounds)) for call in trial.calls)
        found[name] = {"value": trial.rate(seconds), "unit": trial.unit}
    return found


def names() -> Iterator[str]:
    """Yield the names of the ceilings that can be measured here."""
    yield from (*MEMORY, *INFLATE)
    yield from ("GEMM, float64", "GEMM, float32")
    if backends.is_available("torch"):
        yield "GEMM, bfloat16"
        if backends.has_matrix_units():
            yield "GEMM, int8"
    if backends.has_cuda():
        yield from (f"copy, DRAM{GPU}", "launch")
        if backends.torch_has_cuda():
            yield from (f"GEMM, {dtype}{GPU}" for dtype in ("float32", "bfloat16"))


@lru_cache(maxsize=1)  # the cases of a group share one
def make(name: str) -> Trial:
    """Return the trial of the ceiling ``name``, one of `names`, its memory touched and its code compiled."""
    kind, _, variant = name.removesuffix(GPU).partition(", ")
    makers: dict[str, Callable[[str], Trial]] = {
        "copy": _cached_copy if variant in CACHES_BYTES else _copy, "triad": _triad, "write": _write, "GEMM": _product,
        "widen 4": partial(_mixed, 4), "widen 8": partial(_mixed, 8), "inflate": _inflate, "launch": _launch,
    }  # fmt: skip
    if variant == NEW_PAGES and kind == "copy":
        makers["copy"] = partial(_mixed, 1)
    if name.endswith(GPU):
        makers = {"copy": _gpu_copy, "GEMM": _gpu_product}
    trial = makers[kind](variant)
    for call in trial.calls:
        call()
    return trial


def _cached_copy(level: str) -> Trial:
    """Copies that stay in each core's cache, so many that they outweigh the start of threads."""
    size, cores = CACHES_BYTES[level], backends.cpu_count()
    repeats = (1 << 30) // size
    pairs = np.ones((cores, 2, size // 2 // 4), np.float32)
    call = _per_core(
        lambda core, _: _copy_repeatedly(*pairs[core], repeats), np.empty(cores << 20, np.float32)
    )
    return Trial("GB/s", float(cores * repeats * size), [call])


def _arrays(count: int) -> list[np.ndarray]:
    return [np.ones(DRAM_BYTES // 4, np.float32) for _ in range(count)]


def _copy(_: str) -> Trial:
    source, target = _arrays(2)
    calls = [_per_core(lambda core, share: np.copyto(target[share], source[share]), target)]
    if backends.is_available("torch"):
        import torch

        tensors = torch.from_numpy(target), torch.from_numpy(source)
        calls.append(lambda: tensors[0].copy_(tensors[1]))
    return Trial("GB/s", 2.0 * DRAM_BYTES, calls)


def _triad(_: str) -> Trial:
    a, b, c = _arrays(3)
    call = _per_core(lambda core, share: _add_scaled(b[share], c[share], a[share]), a)
    return Trial("GB/s", 3.0 * DRAM_BYTES, [call])


def _write(_: str) -> Trial:
    (target,) = _arrays(1)

    def fill(core: int, share: slice) -> None:
        ctypes.memset(target[share].ctypes.data, 1, target[share].nbytes)

    return Trial("GB/s", 1.0 * DRAM_BYTES, [_per_core(fill, target)])


def _mixed(written: int, variant: str) -> Trial:
    """For each byte read ``written`` bytes written: a copy of the one, a fill of the others, by the C library."""
    source, kept = np.ones(DRAM_BYTES // written, np.uint8), np.ones(DRAM_BYTES, np.uint8)

    def call() -> None:
        target = np.empty(DRAM_BYTES, np.uint8) if variant == NEW_PAGES else kept

        def work(start: int, stop: int) -> None:
            read = source[start // written : stop // written]
            np.copyto(target[start : start + read.size], read)
            if rest := stop - start - read.size:
                ctypes.memset(target[start + read.size :].ctypes.data, 1, rest)

        on_all_cores(work, target)

    return Trial("GB/s", DRAM_BYTES * (1 + 1 / written), [call])


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
def _add_scaled(b: np.ndarray, c: np.ndarray, a: np.ndarray) -> None:
    for index in range(a.size):
        a[index] = b[index] + np.float32(3) * c[index]


def _product(dtype: str) -> Trial:
    A = np.random.default_rng(0).standard_normal((GEMM_SIZE, GEMM_SIZE))
    call: Call
    if dtype in ("float64", "float32"):
        B = A.astype(dtype)
        call = lambda: B @ B  # noqa: E731
    else:
        import torch

        X = torch.from_numpy(A)
        if dtype == "int8":
            call = partial(torch._int_mm, X.abs().to(torch.uint8), X.to(torch.int8))
        else:
            call = partial(torch.mm, X.to(torch.bfloat16), X.to(torch.bfloat16))
    return Trial("GFLOP/s", 2.0 * GEMM_SIZE**3, [call])


def _inflate(variant: str) -> Trial:
    """The fast libraries and Python's own; on all cores, each core inflates the same stream for itself."""
    packed, size_bytes = _packed()
    ways: list[Callable[[bytes], Any]] = [gzip.decompress]
    with suppress(ImportError):
        isal = importlib.import_module("isal.isal_zlib")
        ways.append(lambda data: isal.decompress(data, 31))
    with suppress(ImportError):
        ways.append(importlib.import_module("deflate").gzip_decompress)
    if not variant:
        return Trial("GB/s", float(size_bytes), [partial(way, packed) for way in ways])
    streams = [packed] * backends.cpu_count()

    def on_all(way: Callable[[bytes], Any]) -> list[Any]:
        return list(pool().map(way, streams))

    return Trial("GB/s", float(size_bytes * len(streams)), [partial(on_all, way) for way in ways])


@cache
def _packed() -> tuple[bytes, int]:
    """Pixels compressed as MNIST's files are, and their size."""
    from papershell.benchmarks.problems import find_images
    from papershell.kernels import IdxError, read_idx
    from papershell.trainers.datasets import DataError

    try:
        pixels = read_idx(find_images()).tobytes()[:INFLATED_BYTES]
    except (DataError, OSError, IdxError):
        from sklearn.datasets import load_digits

        digits = load_digits().data.astype(np.uint8).tobytes()
        pixels = digits * (INFLATED_BYTES // len(digits))
    return gzip.compress(pixels, 9), len(pixels)


def _launch(_: str) -> Trial:
    if backends.is_available("cupy"):
        import cupy

        kernel = cupy.RawKernel('extern "C" __global__ void empty() {}', "empty")
        return Trial(
            "us", 1.0, [lambda: (kernel((1,), (1,), ()), cupy.cuda.get_current_stream().synchronize())]
        )
    import torch

    one = torch.zeros(1, device="cuda")
    return Trial("us", 1.0, [lambda: (one.zero_(), torch.cuda.synchronize())])


def _gpu_copy(_: str) -> Trial:
    if backends.is_available("cupy"):
        import cupy

        a, b = cupy.empty(DRAM_BYTES, "uint8"), cupy.empty(DRAM_BYTES, "uint8")
        call = lambda: (cupy.copyto(a, b), cupy.cuda.get_current_stream().synchronize())  # noqa: E731
    else:
        import torch

        x, y = (torch.empty(DRAM_BYTES, dtype=torch.uint8, device="cuda") for _ in range(2))
        call = lambda: (x.copy_(y), torch.cuda.synchronize())  # noqa: E731
    return Trial("GB/s", 2.0 * DRAM_BYTES, [call])


def _gpu_product(dtype: str) -> Trial:
    import torch

    A = torch.randn(GPU_GEMM_SIZE, GPU_GEMM_SIZE, device="cuda").to(getattr(torch, dtype))
    return Trial("GFLOP/s", 2.0 * GPU_GEMM_SIZE**3, [lambda: (A @ A, torch.cuda.synchronize())])


def main() -> None:
    """Print every ceiling."""
    for name, ceiling in measure().items():
        print(f"  {name:26s} {ceiling['value']:9.1f} {ceiling['unit']}")


if __name__ == "__main__":
    main()
