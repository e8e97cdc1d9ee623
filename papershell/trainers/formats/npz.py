"""Arrays from an .npz file of unknown origin: headers and sizes are checked before any array is read."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from papershell.trainers.formats.npy import read_header

NO_OBJECTS = "biufcmMSUV"  # letters of numpy.dtype.kind


def names_in(file: BinaryIO) -> list[str]:
    """Return the names of the arrays in an .npz file; `zipfile` raises various errors if it is none."""
    with zipfile.ZipFile(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npz(
    file: BinaryIO, kinds: Mapping[str, str] | None = None, *, expansion: int = 1
) -> dict[str, np.ndarray]:
    """Return the arrays that `numpy.savez` wrote to ``file``.

    Memory is bounded by the size of the file times ``expansion``, and a header must claim as many bytes as its member
    has. No object is unpickled.

    Parameters
    ----------
    kinds : by the name of each array that the file must hold, the letters of `numpy.dtype.kind` that it may be of;
        only these arrays are returned. By default all arrays are, of any kind but objects.
    expansion : how many times the size of the file all arrays may claim together. At 1 compressed or overlapping
        members, which `numpy.savez` does not write, are refused.

    Raises
    ------
    ValueError
        An array is missing, of another kind, or claims more than it holds or than ``expansion`` allows.
    Exception
        `zipfile` and NumPy raise a dozen other types on damaged files.
    """
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        kinds = dict.fromkeys(members, NO_OBJECTS) if kinds is None else kinds
        if missing := kinds.keys() - members.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        if sum(member.file_size for member in members.values()) > expansion * file.seek(0, os.SEEK_END):
            often = f"more than {expansion} times the bytes that" if expansion > 1 else "more bytes than"
            raise ValueError(f"its arrays claim {often} the file has: one is compressed or shares its bytes")
        for name in kinds:
            _check(archive, members[name], name, kinds[name], expansion)
        return {name: _read(archive, members[name]) for name in kinds}


def _check(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, kinds: str, expansion: int) -> None:
    if member.compress_type not in (zipfile.ZIP_STORED, *[zipfile.ZIP_DEFLATED] * (expansion > 1)):
        raise ValueError(f"its {name} is compressed")
    with archive.open(member) as file:
        shape, _, dtype = read_header(file)
        header_bytes = file.tell()
    if dtype.kind not in kinds:
        raise ValueError(f"its {name} is of type {dtype}")
    if math.prod(shape) * dtype.itemsize > member.file_size - header_bytes:
        raise ValueError(f"its {name} claims the shape {shape}, which {member.file_size} bytes cannot hold")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
