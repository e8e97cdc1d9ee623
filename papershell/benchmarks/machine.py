"""The machine block of a run: processor, memory, GPU, libraries, and an id for the machine's history."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from papershell.kernels.backends import cpu_count
from papershell.trainers.provenance import versions

LIBRARIES = (
    "numpy", "numba", "scipy", "scikit-learn", "torch", "tensorflow-cpu", "tensorflow", "keras", "jax",
    "cupy-cuda12x", "cupy-cuda13x", "numba-cuda", "isal", "deflate", "rapidgzip", "pytest-benchmark",
)  # fmt: skip
GPU_FIELDS = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")


def describe(cpu: str) -> dict[str, Any]:
    """Return the machine block, but for its ceilings; ``cpu`` is the processor's name."""
    gpu, memory_GB = find_gpu(), _memory_gb()
    facts = {"cpu": cpu, "cores": cpu_count(), "memory_GB": memory_GB, "gpu": gpu and gpu["name"]}
    return {
        "id": machine_id(facts),
        **facts,
        "clock_MHz": _clock_mhz(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "gpu": gpu,
        "libraries": {"python": platform.python_version(), **versions(*LIBRARIES)},
    }


def machine_id(facts: dict[str, Any]) -> str:
    """Return a short name that machines of equal processor, cores, memory and GPU share."""
    digest = hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()[:6]
    words = re.sub(r"[^a-z0-9]+", "-", f"{facts['gpu'] or facts['cpu']}".lower()).strip("-")[:32]
    return f"{words}-{facts['cores']}c-{digest}"


def find_gpu() -> dict[str, Any] | None:
    """Return the facts that nvidia-smi prints of the first GPU, or None if there is no GPU."""
    query = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        first = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None
    return parse_gpu(first)


def parse_gpu(line: str) -> dict[str, Any]:
    """Return the facts in a line of nvidia-smi's CSV; None for those that the card does not tell."""
    name, driver, memory_mib, clock_mhz, power_w = line.split(", ")
    numbers = [
        float(text) if re.fullmatch(r"[\d.]+", text) else None for text in (memory_mib, clock_mhz, power_w)
    ]
    memory_bytes = numbers[0] and numbers[0] * 2**20
    return {
        "name": name, "driver": driver, "memory_GB": memory_bytes and round(memory_bytes / 1e9, 1),
        "clock_MHz": numbers[1], "power_limit_W": numbers[2],
    }  # fmt: skip


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (ValueError, OSError, AttributeError):
        return None


def _clock_mhz() -> float | None:
    found = re.search(r"cpu MHz\s*:\s*([\d.]+)", _read("/proc/cpuinfo") or "")
    return float(found[1]) if found else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
