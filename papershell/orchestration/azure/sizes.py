"""Azure VM sizes as data: their GPU, their retirement and their successor.

Every row says where and when it was read; a size that Azure has changed since is corrected in its row.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import date

_RETIREMENTS = "azure-compute-docs: sizes/lifecycle/retirements-and-capacity-restrictions.md"
_SPECIFICATIONS = "azure-compute-docs: sizes/gpu-accelerated/*-specs.md"
_OLD_RETIREMENTS = "azure-compute-docs: retired-sizes list, n-series-migration.md"
_GENERAL = "azure-compute-docs: sizes/general-purpose/*-specs.md"
_READ = date(2026, 9, 24)


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
    source: str = _SPECIFICATIONS
    read_on: date = _READ


_T4, _A100 = "STANDARD_NC4as_T4_v3", "STANDARD_NC24ads_A100_v4"
_2023, _2025 = date(2023, 9, 6), date(2025, 9, 30)

_ROWS = (
    VmSize("STANDARD_NC6", "standardNCFamily", 6, 56, "K80", 1, 12, (3, 7), _2023, True, _T4,
           source=_OLD_RETIREMENTS),
    VmSize("STANDARD_NC12", "standardNCFamily", 12, 112, "K80", 2, 12, (3, 7), _2023, True, _T4,
           source=_OLD_RETIREMENTS),
    VmSize("STANDARD_NC24", "standardNCFamily", 24, 224, "K80", 4, 12, (3, 7), _2023, True,
           "STANDARD_NC64as_T4_v3", source=_OLD_RETIREMENTS),
    VmSize("STANDARD_NC6s_v2", "standardNCSv2Family", 6, 112, "P100", 1, 16, (6, 0), _2023, True, _A100,
           source=_OLD_RETIREMENTS),
    VmSize("STANDARD_ND6s", "standardNDSFamily", 6, 112, "P40", 1, 24, (6, 1), _2023, True, _A100,
           source=_OLD_RETIREMENTS),
    VmSize("STANDARD_NC6s_v3", "standardNCSv3Family", 6, 112, "V100", 1, 16, (7, 0), _2025, True, _A100,
           source=_RETIREMENTS),
    VmSize("STANDARD_NC12s_v3", "standardNCSv3Family", 12, 224, "V100", 2, 16, (7, 0), _2025, True, _A100,
           source=_RETIREMENTS),
    VmSize("STANDARD_NC24rs_v3", "standardNCSv3Family", 24, 448, "V100", 4, 16, (7, 0), _2025, True, _A100,
           source=_RETIREMENTS),
    VmSize("STANDARD_ND40rs_v2", "standardNDSv2Family", 40, 672, "V100", 8, 32, (7, 0)),
    VmSize("STANDARD_NC4as_T4_v3", "standardNCASv3_T4Family", 4, 28, "T4", 1, 16, (7, 5)),
    VmSize("STANDARD_NC8as_T4_v3", "standardNCASv3_T4Family", 8, 56, "T4", 1, 16, (7, 5)),
    VmSize("STANDARD_NC16as_T4_v3", "standardNCASv3_T4Family", 16, 110, "T4", 1, 16, (7, 5)),
    VmSize("STANDARD_NC64as_T4_v3", "standardNCASv3_T4Family", 64, 440, "T4", 4, 16, (7, 5)),
    VmSize("STANDARD_NV36ads_A10_v5", "standardNVADSA10v5Family", 36, 440, "A10", 1, 24, (8, 6)),
    VmSize("STANDARD_NC24ads_A100_v4", "standardNCADSA100v4Family", 24, 220, "A100", 1, 80, (8, 0)),
    VmSize("STANDARD_NC48ads_A100_v4", "standardNCADSA100v4Family", 48, 440, "A100", 2, 80, (8, 0)),
    VmSize("STANDARD_NC96ads_A100_v4", "standardNCADSA100v4Family", 96, 880, "A100", 4, 80, (8, 0)),
    VmSize("STANDARD_ND96asr_v4", "standardNDASv4_A100Family", 96, 900, "A100", 8, 40, (8, 0)),
    VmSize("STANDARD_ND96amsr_A100_v4", "standardNDAMSv4_A100Family", 96, 1900, "A100", 8, 80, (8, 0)),
    VmSize("STANDARD_NC40ads_H100_v5", "standardNCADSH100v5Family", 40, 320, "H100 NVL", 1, 94, (9, 0)),
    VmSize("STANDARD_NC80adis_H100_v5", "standardNCADSH100v5Family", 80, 640, "H100 NVL", 2, 94, (9, 0)),
    VmSize("STANDARD_ND96isr_H100_v5", "standardNDSH100v5Family", 96, 1900, "H100", 8, 80, (9, 0)),
    VmSize("STANDARD_ND96isr_H200_v5", "standardNDSH200v5Family", 96, 1850, "H200", 8, 141, (9, 0)),
    VmSize("STANDARD_ND128isr_NDR_GB200_v6", "standardNDSGB200v6Family", 128, 900, "GB200", 4, 192, (10, 0),
           machine="aarch64"),
    VmSize("STANDARD_D2_V2", "standardDv2Family", 2, 7, retires_on=date(2028, 5, 1), closed_to_new=True,
           successor="STANDARD_D2s_v5", source=_RETIREMENTS),
    VmSize("STANDARD_D3_V2", "standardDv2Family", 4, 14, retires_on=date(2028, 5, 1), closed_to_new=True,
           successor="STANDARD_D4s_v5", source=_RETIREMENTS),
    VmSize("STANDARD_D2s_v5", "standardDSv5Family", 2, 8, source=_GENERAL),
    VmSize("STANDARD_D4s_v5", "standardDSv5Family", 4, 16, source=_GENERAL),
    VmSize("STANDARD_D8s_v5", "standardDSv5Family", 8, 32, source=_GENERAL),
    VmSize("STANDARD_D16s_v5", "standardDSv5Family", 16, 64, source=_GENERAL),
)  # fmt: skip

SIZES: dict[str, VmSize] = {row.name.upper(): row for row in _ROWS}


def find(name: str) -> VmSize | None:
    """Return the size of that name in any case, or None if the table has no such row."""
    return SIZES.get(name.upper())


def similar(name: str) -> list[str]:
    """Return the sizes, none of them retired, that ``name`` may have meant; the likeliest first."""
    offered = [key for key, size in SIZES.items() if not size.retires_on or size.retires_on > date.today()]
    return [SIZES[key].name for key in difflib.get_close_matches(name.upper(), offered, n=3)]
