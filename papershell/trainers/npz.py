"""Arrays from an .npz file of unknown origin: headers and sizes are checked before any array is read."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

_NO_OBJECTS = "biufcmMSU"  # letters of numpy.dtype.kind


def read_npz(file: BinaryIO, kinds: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays that `numpy.savez` wrote to ``file``.

    Memory is bounded by the size of the file: compressed or overlapping members, which `numpy.savez` does not
    write, are refused, and a header must not claim more bytes than its member has. No object is unpickled.

    Parameters
    ----------
    kinds : by the name of each array that the file must hold, the letters of `numpy.dtype.kind` that it may be of;
        only these arrays are returned. By default all arrays are, of any kind but objects.

    Raises
    ------
    ValueError
        An array is missing, compressed, of another kind, or claims more than it holds.
    Exception
        `zipfile` and NumPy raise a dozen other types on damaged files.
    """
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        kinds = dict.fromkeys(members, _NO_OBJECTS) if kinds is None else kinds
        if missing := kinds.keys() - members.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        if sum(member.file_size for member in members.values()) > file.seek(0, os.SEEK_END):
            raise ValueError(
                "its arrays claim more bytes than the file has: one is compressed or shares its bytes"
            )
        for name in kinds:
            _check_header(archive, members[name], name, kinds[name])
        return {name: _read(archive, members[name]) for name in kinds}


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, kinds: str) -> None:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its {name} is compressed")
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"its {name} has a header of another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or dtype.kind not in kinds:
        raise ValueError(f"its {name} is of type {dtype}")
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"its {name} claims the shape {shape}, which {member.file_size} bytes cannot hold")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
