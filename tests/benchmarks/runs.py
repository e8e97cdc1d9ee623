"""Recorded benchmark runs as pytest-benchmark writes them, made without measuring anything."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

PIXELS = 60_000 * 28 * 28

CEILINGS = {
    "copy, L1": {"value": 412.0, "unit": "GB/s"},
    "copy, L2": {"value": 171.0, "unit": "GB/s"},
    "copy, DRAM": {"value": 31.2, "unit": "GB/s"},
    "triad, DRAM": {"value": 28.4, "unit": "GB/s"},
    "GEMM, float64": {"value": 152.0, "unit": "GFLOP/s"},
    "GEMM, float32": {"value": 320.0, "unit": "GFLOP/s"},
    "GEMM, bfloat16": {"value": 2410.0, "unit": "GFLOP/s"},
    "GEMM, int8": {"value": 3905.0, "unit": "GFLOP/s"},
    "inflate": {"value": 0.9, "unit": "GB/s"},
    "launch": {"value": 4.1, "unit": "us"},
}
GPU_CEILINGS = {
    "copy, L2 of the GPU": {"value": 7350.0, "unit": "GB/s"},
    "copy, HBM": {"value": 4020.0, "unit": "GB/s"},
}
GPU = {
    "name": "NVIDIA H200",
    "driver": "570.86.15",
    "memory_GB": 139.8,
    "clock_MHz": 1980,
    "power_limit_W": 700.0,
}


@dataclass(frozen=True)
class Case:
    """One benchmark: what it does, in how many seconds, and what it moves and computes."""

    group: str
    case: str
    backend: str
    seconds: float
    dtype: str = "float32"
    device: str = "cpu"
    is_reference: bool = False
    bytes: int | None = None
    flops: int | None = None
    ceiling: str | None = None
    error: float | None = None
    first_call_s: float | None = None
    host_s: float | None = None
    cold_s: float | None = None
    peak_bytes: int | None = None
    page_faults: int | None = None
    params: tuple[tuple[str, Any], ...] = ()  # besides the case, which every test has

    @property
    def name(self) -> str:
        """The test's name, parametrized by the case and by more."""
        more = "".join(f"-{value}" for _, value in self.params)
        return f"test_{self.group.replace(',', '').replace(' ', '_')}[{self.case}{more}]"


_NORMALIZE = {"group": "normalize, float32", "bytes": 5 * PIXELS, "ceiling": "copy, DRAM"}
_GRAM = {"group": "Gram, 784 pixels", "bytes": PIXELS + 784 * 784 * 4, "flops": 2 * PIXELS * 784}
_PRODUCTS = {"group": "products, 16 rates", "bytes": 5 * PIXELS, "flops": 2 * PIXELS * 160}
_RESIDUAL = {"group": "residual, 16 rates", "bytes": 2 * 60_000 * 160 * 4, "flops": 60_000 * 160 * 25}
CASES = (
    Case("decode, MNIST", "gzip.decompress", "zlib", 0.163, "uint8", is_reference=True, bytes=PIXELS, error=0.0),
    Case("decode, MNIST", "isal", "isal", 0.069, "uint8", bytes=PIXELS, ceiling="inflate", error=0.0),
    Case("decode, MNIST", "isal, two members", "isal", 0.0525, "uint8", bytes=PIXELS, ceiling="inflate", error=0.0),
    Case(**_NORMALIZE, case="X / 255.0", backend="numpy", seconds=0.078, is_reference=True, error=0.0),
    Case(**_NORMALIZE, case="numba", backend="numba", seconds=0.023, error=0.0, first_call_s=0.81),
    Case(**_NORMALIZE, case="numba, out=", backend="numba", seconds=0.0121, error=0.0, first_call_s=0.79),
    Case(**_NORMALIZE, case="torch, out=", backend="torch", seconds=0.0098, error=5.9e-8, first_call_s=0.0031),
    Case(**_GRAM, case="X.T @ X", backend="numpy", seconds=0.252, is_reference=True,
         ceiling="GEMM, float32", error=3.1e-6),
    Case(**_GRAM, case="exact int8", backend="torch", seconds=0.0214, dtype="int8", ceiling="GEMM, int8", error=0.0),
    Case(**_PRODUCTS, case="X @ W", backend="numpy", seconds=0.0581, is_reference=True,
         ceiling="GEMM, float32", error=1.8e-7),
    Case(**_PRODUCTS, case="three bfloat16 pieces", backend="torch", seconds=0.0113, dtype="bfloat16",
         ceiling="GEMM, bfloat16", error=6.5e-8, first_call_s=0.012),
    Case(**_RESIDUAL, case="NumPy, unfused", backend="numpy", seconds=0.0937, dtype="float64", is_reference=True),
    Case(**_RESIDUAL, case="fused", backend="numba", seconds=0.00442, ceiling="copy, DRAM",
         error=2.2e-7, first_call_s=2.4),
    Case("solve, 16 rates", "scikit-learn lbfgs, one by one", "scikit-learn", 212.0, "float64", is_reference=True),
    Case("solve, 16 rates", "fit_path", "torch", 8.6, error=8.1e-5, first_call_s=9.3),
    Case("byte order, 1000 labels", "astype", "numpy", 1.62e-6, "int32", is_reference=True, bytes=8000,
         ceiling="copy, L1"),
    Case("byte order, 1000 labels", "byteswap in place", "numpy", 8.4e-7, "int32", bytes=8000, ceiling="copy, L1"),
)  # fmt: skip
CUDA_CASES = (
    Case(**{**_NORMALIZE, "ceiling": "copy, HBM"}, case="cupy", backend="cupy", seconds=6.1e-5, device="cuda",
         error=0.0, first_call_s=0.44, host_s=9.3e-6, cold_s=7.2e-5),
)  # fmt: skip

SIZES = (1_000, 10_000, 60_000)
SIZE_CASES = tuple(
    Case("scale", case, backend, seconds * rows, dtype, is_reference=case == "X / 255",
         params=(("rows", rows), ("dtype", dtype)), peak_bytes=rows * 784 * 4, page_faults=rows // 5)
    for case, backend, seconds in (("X / 255", "", 1e-6), ("numba", "numba", 3e-7), ("torch", "torch", 2e-7))
    for dtype in ("float32", "float64")
    for rows in SIZES
)  # fmt: skip
EXTRA_CASE = Case("import", "papershell --help", "numpy", 0.31)
OPTIONAL_NUMBERS = (
    *("ratio", "ratio_low", "ratio_high", "first_call_s", "bytes", "flops", "GB_per_s", "GFLOP_per_s"),
    *("percent_of_ceiling", "error", "host_s", "cold_s", "peak_bytes", "page_faults"),
)
HOSTILE = '</script><img src=x onerror="window.harmed = 1">\'"`{{data}}$&\u2028🦜 {"a": [1]} &lt;b&gt;<!--'


def commit_id(index: int) -> str:
    """Return the forty hexadecimal digits of the ``index``-th commit of the made-up history."""
    return sha1(f"commit {index}".encode()).hexdigest()


def make_run(
    index: int = 0,
    *,
    cases: Sequence[Case] = CASES,
    slowdown: Mapping[str, float] | None = None,
    noise: float = 0.015,
    rounds: int = 20,
    machine: str = "amd-epyc-2c-3f2a9c",
    gpu: Mapping[str, Any] | None = None,
    dirty: bool = False,
) -> dict[str, Any]:
    """Return the run of commit ``index``, the same one whenever it is asked for.

    ``slowdown`` multiplies the seconds of the cases it names by their human name (``Case.case``);
    ``noise`` is the relative standard deviation of one round. The 95 % interval of each ratio is
    that of the mean of the paired logarithms. A reference is timed twice against itself.
    """
    noisy = random.Random(f"{index} {machine}")
    factors = slowdown or {}
    seconds = {case: case.seconds * factors.get(case.case, 1.0) for case in cases}
    references = {case.group: case for case in cases if case.is_reference}

    def sample(case: Case) -> list[float]:
        return [seconds[case] * noisy.lognormvariate(0.0, noise) for _ in range(rounds)]

    return {
        "machine_info": {"papershell": _machine(machine, gpu)},
        "commit_info": {
            "id": commit_id(index),
            "time": f"2026-11-{1 + index % 28:02d}T09:12:44+01:00",
            "dirty": dirty,
            "branch": "main",
        },
        "datetime": f"2026-11-{1 + index % 28:02d}T02:17:31.482913+00:00",
        "version": "5.3.1",
        "benchmarks": [_benchmark(case, references.get(case.group), sample) for case in cases],
    }


def make_history() -> list[dict[str, Any]]:
    """Five nights of one machine and one of another; one case vanishes, one is new, one gets slower."""
    return [
        make_run(0),
        make_run(1, cases=[*CASES, EXTRA_CASE]),
        make_run(2, machine="another-one"),
        make_run(3, cases=CASES[1:], dirty=True),
        make_run(4, slowdown={"numba, out=": 1.2}),
        make_run(5, cases=[*CASES, *CUDA_CASES], gpu=GPU, slowdown={"numba, out=": 1.2}),
    ]


def _machine(machine: str, gpu: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "format": 1,
        "id": machine,
        "cpu": "AMD EPYC 9B45",
        "cores": 2,
        "memory_GB": 15.6,
        "clock_MHz": 2600,
        "gpu": gpu,
        "libraries": {"numpy": "2.3.2", "numba": "0.62.1", "torch": "2.13.0", "scikit-learn": "1.9.0", "isal": "1.8.0"},
        "ceilings": CEILINGS | GPU_CEILINGS if gpu else CEILINGS,
    }  # fmt: skip


def _benchmark(case: Case, reference: Case | None, sample: Any) -> dict[str, Any]:
    data = sample(case)
    median = statistics.median(data)
    GB_per_s = case.bytes / median / 1e9 if case.bytes else None
    GFLOP_per_s = case.flops / median / 1e9 if case.flops else None
    return {
        "group": case.group,
        "name": case.name,
        "fullname": f"test_kernels.py::{case.name}",
        "params": {"case": case.case, **dict(case.params)},
        "stats": _stats(data),
        "extra_info": {
            "reference": reference.case if reference else None,
            "is_reference": case.is_reference,
            **(_ratio(sample(reference), data) if reference else {}),
            "first_call_s": case.first_call_s,
            "bytes": case.bytes,
            "flops": case.flops,
            "GB_per_s": GB_per_s,
            "GFLOP_per_s": GFLOP_per_s,
            "ceiling": case.ceiling,
            "percent_of_ceiling": _percent(case.ceiling, GB_per_s, GFLOP_per_s),
            "error": case.error,
            "dtype": case.dtype,
            "backend": case.backend,
            "device": case.device,
            "case": case.case,
            "host_s": case.host_s,
            "cold_s": case.cold_s,
            "peak_bytes": case.peak_bytes,
            "page_faults": case.page_faults,
        },
    }


def _percent(ceiling: str | None, GB_per_s: float | None, GFLOP_per_s: float | None) -> float | None:
    if ceiling is None:
        return None
    limit = (CEILINGS | GPU_CEILINGS)[ceiling]
    achieved = GB_per_s if limit["unit"] == "GB/s" else GFLOP_per_s
    return None if achieved is None else 100 * achieved / limit["value"]


def _ratio(reference: Sequence[float], data: Sequence[float]) -> dict[str, float]:
    pairs = [theirs / ours for theirs, ours in zip(reference, data, strict=True)]
    middle, halfwidth = statistics.median(pairs), 1.96 * statistics.stdev(pairs) / len(pairs) ** 0.5
    return {"ratio": middle, "ratio_low": middle - halfwidth, "ratio_high": middle + halfwidth}


def _stats(data: list[float]) -> dict[str, Any]:
    q1, median, q3 = statistics.quantiles(data, n=4, method="inclusive")
    return {
        "min": min(data), "max": max(data), "mean": statistics.mean(data), "stddev": statistics.stdev(data),
        "rounds": len(data), "median": median, "iqr": q3 - q1, "q1": q1, "q3": q3,
        "iqr_outliers": 0, "stddev_outliers": 0, "outliers": "0;0", "ld15iqr": min(data), "hd15iqr": max(data),
        "ops": 1 / statistics.mean(data), "total": sum(data), "iterations": 1, "data": data,
    }  # fmt: skip
