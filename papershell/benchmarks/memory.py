"""The memory of a call, as Linux counts it: by how much the process grew, and how many pages it touched anew."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESET_PEAK = "5"  # proc(5), /proc/[pid]/clear_refs
PROCESS = Path("/proc/self")


def watched(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return a call's result, and its ``peak_bytes`` and ``page_faults``; neither if the system does not tell.

    ``peak_bytes`` is the most by which the process's resident memory grew during the call, result included; memory
    that the process held already, and used again, is not in it. ``page_faults`` are pages that the kernel had to map.
    """
    try:
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
        before, faults = _resident_bytes("VmRSS"), _faults()
    except (OSError, LookupError):
        return call(), {}
    result = call()
    return result, {
        "peak_bytes": max(0, _resident_bytes("VmHWM") - before),
        "page_faults": _faults() - faults,
    }


def _resident_bytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
    if not found:
        raise LookupError(name)
    return int(found[1]) << 10


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
