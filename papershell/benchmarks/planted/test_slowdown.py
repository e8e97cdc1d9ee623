"""A kernel that a test slows down by a known share, to see whether `papershell bench check` finds it.

``PLANTED_SHARE`` (0.05 for five percent) makes it decode that share of the images once more. The kernel
itself is unchanged. `python -m papershell.benchmarks.trials` counts the slowdowns that are found.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks.case import Case, against
from papershell.benchmarks.measure import Measure
from papershell.benchmarks.peers import load_data
from papershell.kernels import read_idx

SHARE = float(os.environ.get("PLANTED_SHARE", "0"))
REFERENCE, CASE = "gzip + struct + frombuffer", "read_idx"


def packed(images: np.ndarray) -> bytes:
    """An IDX file of images (N, 784), compressed."""
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (len(images), 28, 28))
    return gzip.compress(header + images.tobytes())


@pytest.mark.parametrize("case", [REFERENCE, CASE])
def test_decode(measure: Measure, images_path: Path, case: str) -> None:
    path = images_path.with_name(images_path.name.replace("train", "t10k"))
    whole, file = load_data(path), path.read_bytes()
    part = packed(whole[: round(SHARE * len(whole))])

    def slowed() -> Any:
        if SHARE:
            read_idx(part)
        return read_idx(file).reshape(whole.shape)

    calls: dict[str, Callable[[], Any]] = {REFERENCE: lambda: load_data(path), CASE: slowed}
    measure(Case.among(calls, case, group="decode", error=against(whole), tolerance=0, dtype="uint8"))
