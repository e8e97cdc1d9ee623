"""Arrays written as IDX files."""

from __future__ import annotations

import gzip
import os

import numpy as np

from papershell.kernels.files import replacing
from papershell.kernels.idx.header import ELEMENT_TYPES

_CODES = {dtype.newbyteorder("="): code for code, dtype in ELEMENT_TYPES.items()}


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write ``array`` to ``path`` as an IDX file, gzip-compressed if the name ends in ``.gz``.

    The file is written whole or not at all, and equal arrays give equal bytes (no time stamp).

    Parameters
    ----------
    path : of the file; its folder must exist. See `papershell.kernels.files.replacing`.
    array : any rank up to NumPy's 64, each size below 2^32; uint8, int8, int16, int32, float32 or
        float64 in any byte order and memory order. Other integers, and booleans, are stored in the smallest
        of these types that holds all of them: labels of int64 become bytes.

    Raises
    ------
    ValueError
        The array's type, a value or a size of it has no place in the format.
    OSError
        The file cannot be written, as in `papershell.kernels.files.replacing`.
    """
    array = np.asarray(array)
    dtype = _stored_type(path, array)
    if max(array.shape, default=0) >= 2**32:
        raise ValueError(f"{path}: an IDX dimension is below 2^32, but the shape is {array.shape}")
    head = bytes([0, 0, _CODES[dtype], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = np.ascontiguousarray(array, dtype.newbyteorder(">")).reshape(-1).view(np.uint8)
    with replacing(path) as file:
        if os.fspath(path).endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
                packed.write(head)
                packed.write(data.data)
        else:
            file.write(head)
            file.write(data.data)


def _stored_type(path: str | os.PathLike[str], array: np.ndarray) -> np.dtype:
    """Return the native element type in which ``array`` is stored without loss."""
    native = array.dtype.newbyteorder("=")
    if native in _CODES:
        return native
    if array.dtype.kind in "biu":
        least, most = (int(array.min()), int(array.max())) if array.size else (0, 0)
        for dtype in _CODES:  # in order of size
            if dtype.kind in "iu" and np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max:
                return dtype
        raise ValueError(f"{path}: IDX holds integers from -2^31 to 2^31 - 1, found {least} to {most}")
    known = ", ".join(dtype.name for dtype in _CODES)
    raise ValueError(f"{path}: IDX holds {known}, not {array.dtype}; convert with array.astype(...)")
