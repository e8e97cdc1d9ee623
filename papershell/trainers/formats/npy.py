"""One array in an .npy file: mapped, never unpickled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO

import numpy as np

_VERSION = (
    1,
    0,
)  # NumPy writes others only for records with thousands of fields, or with names beyond latin1


def map_npy(path: Path) -> np.ndarray:
    """Return the array of an .npy file without reading it: the system loads each page on first use.

    Returns
    -------
    array : read-only, of the shape, order and type that the header gives, bytes in the file's order.

    Raises
    ------
    ValueError
        The header is damaged or names objects, or the file is shorter or longer than the header says.
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        shape, fortran_order, dtype = read_header(file)
        start, end = file.tell(), file.seek(0, 2)
    if (size := math.prod(shape) * dtype.itemsize) != end - start:
        raise ValueError(
            f"its header claims the shape {shape} of {dtype}, {size:,} bytes, but {end - start:,} follow"
        )
    if not size:
        return np.empty(shape, dtype)  # the system maps no empty file
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran_order else "C")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an .npy file: shape, whether the order is Fortran's, type of the elements.

    Raises
    ------
    ValueError
        It is of another version, damaged, or names objects, which only pickle reads.
    """
    if np.lib.format.read_magic(file) != _VERSION:
        raise ValueError("its header is of another version")
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:  # of NumPy's parser
        raise ValueError("its header is damaged") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only pickle reads; write numbers or strings")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header claims the shape {shape}")
    return shape, fortran_order, dtype
