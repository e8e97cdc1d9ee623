"""Azure VM sizes: their GPU, their retirement and their successor, from the table ``vm_sizes.csv``."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import date

from papershell.orchestration.azure.tables import read_table, version


@dataclass(frozen=True)
class VmSize:
    """One VM size.

    Attributes
    ----------
    name : as Azure ML spells it; upper and lower case are the same.
    family : the quota family of its cores.
    vcpus, memory_gib : of the host.
    gpu, gpus, gpu_memory_gib : model, count (0: none) and memory of each.
    compute_capability : CUDA compute capability of the GPU, as (major, minor).
    retires_on : the day from which Azure offers it no longer; None if no such day is known.
    closed_to_new : new subscriptions cannot deploy it any more.
    successor : the size that replaces it.
    machine : processor architecture of the host.
    source, read_on : where and when this row was read.
    """

    name: str
    family: str
    vcpus: int
    memory_gib: float
    gpu: str = ""
    gpus: int = 0
    gpu_memory_gib: float = 0
    compute_capability: tuple[int, int] | None = None
    retires_on: date | None = None
    closed_to_new: bool = False
    successor: str = ""
    machine: str = "x86_64"
    source: str = ""
    read_on: date | None = None


def _size(row: dict[str, str]) -> VmSize:
    texts = {name: row[name] for name in ("name", "family", "gpu", "successor", "machine", "source")}
    return VmSize(
        **texts,
        vcpus=int(row["vcpus"]),
        memory_gib=float(row["memory_gib"]),
        gpus=int(row["gpus"]),
        gpu_memory_gib=float(row["gpu_memory_gib"]),
        compute_capability=version(row["compute_capability"]),
        retires_on=date.fromisoformat(row["retires_on"]) if row["retires_on"] else None,
        closed_to_new=row["closed_to_new"] == "yes",
        read_on=date.fromisoformat(row["read_on"]),
    )


SIZES: dict[str, VmSize] = {row["name"].upper(): _size(row) for row in read_table("vm_sizes")}


def find(name: str) -> VmSize | None:
    """Return the size of that name in any case, or None if the table has no such row."""
    return SIZES.get(name.upper())


def similar(name: str) -> list[str]:
    """Return the sizes, none of them retired, that ``name`` may have meant; the likeliest first."""
    offered = [key for key, size in SIZES.items() if not size.retires_on or size.retires_on > date.today()]
    return [SIZES[key].name for key in difflib.get_close_matches(name.upper(), offered, n=3)]
