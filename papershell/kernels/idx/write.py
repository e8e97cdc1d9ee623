"""Arrays written as IDX files."""

from __future__ import annotations

import gzip
import os

import numpy as np

from papershell.kernels.files import replacing
from papershell.kernels.idx.header import ELEMENT_TYPES

_CODES = {dtype.newbyteorder("="): code for code, dtype in ELEMENT_TYPES.items()}


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write ``array`` to ``path`` as an IDX file, gzip-compressed where the name ends in ``.gz``.

    The file is written whole or not at all, and equal arrays give equal bytes (no time stamp).

    Parameters
    ----------
    path : where to; its folder must exist.
    array : any rank up to NumPy's 64, each size below 2^32; uint8, int8, int16, int32, float32 or
        float64 in any byte order and memory order.

    Raises
    ------
    ValueError
        The array's type or a size of it has no place in the format.
    """
    array = np.asarray(array)
    native = array.dtype.newbyteorder("=")
    if native not in _CODES:
        known = ", ".join(dtype.name for dtype in _CODES)
        raise ValueError(f"{path}: IDX holds {known}, not {array.dtype}; convert with array.astype(...)")
    if max(array.shape, default=0) >= 2**32:
        raise ValueError(f"{path}: an IDX dimension is below 2^32, but the shape is {array.shape}")
    code = _CODES[native]
    head = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = np.ascontiguousarray(array, ELEMENT_TYPES[code]).reshape(-1).view(np.uint8)
    with replacing(path) as file:
        if os.fspath(path).endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
                packed.write(head)
                packed.write(data.data)
        else:
            file.write(head)
            file.write(data.data)
