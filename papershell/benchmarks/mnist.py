"""What the decoding benchmarks share: where MNIST lies, the walk-throughs' loader, the table."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def find_images() -> Path:
    """Return the path of the MNIST training images below the folder that PAPERSHELL_DATA names."""
    root = Path(os.environ.get("PAPERSHELL_DATA", "data"))
    for name in ("train-images-idx3-ubyte.gz", "train-images.gz"):
        if path := next(root.rglob(name), None):
            return path
    raise SystemExit(
        f"no MNIST training images below {root}: set PAPERSHELL_DATA to the folder that holds them"
    )


def load_data(path: Path) -> np.ndarray:
    """Return the images as the walk-throughs load them: gzip, struct, frombuffer; (N, 784) uint8."""
    with gzip.open(path) as file:
        file.read(4)
        count, rows, columns = struct.unpack(">III", file.read(12))
        return np.frombuffer(file.read(count * rows * columns), np.uint8).reshape(count, rows * columns)


def print_goals(goals: Iterable[tuple[str, float, float]]) -> None:
    """Print each goal's name, the ratio found and the ratio asked for."""
    for name, found, asked in goals:
        print(f"  {name:58s} {found:6.2f}   asked {asked:5.2f}   {'reached' if found >= asked else 'MISSED'}")
