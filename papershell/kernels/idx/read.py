"""IDX files to arrays: from a source, inflated if need be, to elements in the machine's byte order."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

import numpy as np

from papershell.kernels.backends import require
from papershell.kernels.idx.header import Header, IdxError, read_header
from papershell.kernels.idx.inflate import MAGIC, MAX_RATIO, GzipReader
from papershell.kernels.placement import place

# Wide elements are read and turned in blocks: 256 KiB fit into a core's second cache, so that only the result goes
# to memory; blocks of 16 KiB took 1.5 times as long, because of their calls.
_BLOCK_BYTES = 1 << 18

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


class Readable(Protocol):
    """Gives the bytes of an IDX file in turn."""

    def readinto(self, view: memoryview, /) -> int: ...


def read_idx(source: Source, *, backend: str = "auto") -> Any:
    """Return the array that an IDX file holds, in the machine's byte order.

    Parameters
    ----------
    source : path, bytes-like object, or binary file (read from its position to its end). Raw or
        gzip-compressed, in one or several members: the first bytes decide, not the name.
    backend : ``auto``, ``numpy`` and ``numba`` return a NumPy array, ``torch`` a tensor (on the CUDA device
        if there is one), ``cupy`` and ``numba-cuda`` an array of theirs on the current device.

    Returns
    -------
    array : uint8, int8, int16, int32, float32 or float64, of the shape the header gives (rank 0 to 64),
        contiguous, writable, sharing no memory with ``source``.

    Raises
    ------
    IdxError
        The file is malformed: cut, followed by other bytes, corrupt, or not IDX. The size in its header is
        compared with its length (deflate packs at most 1032 bytes into one) before any memory is taken.
    BackendError
        The back end is absent.
    OSError
        The file cannot be read.

    Source: the file formats section of Y. LeCun's MNIST page; RFC 1951 and 1952 for gzip.
    """
    backend = require("numpy" if backend == "auto" else backend).name
    with opened(source) as (header, reader, name):
        array = _allocate(header, name)
        _read_elements(reader, array.reshape(-1), header, name)
        _read_end(reader, header, name)
    return place(array, backend)


def map_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the elements of an uncompressed IDX file without reading it: the system loads each page on first use.

    Parameters
    ----------
    path : of the file, which must not change as long as the array is in use.

    Returns
    -------
    array : read-only, of the shape the header gives; elements of several bytes in the file's byte order,
        which is big-endian. `fit_path` converts blocks of its rows and never copies it whole, however large.

    Raises
    ------
    IdxError
        The file is malformed, as in `read_idx`, or compressed.
    OSError
        The file cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(2) == MAGIC:
            raise IdxError(
                os.fspath(path), 0, "a raw IDX file, for only such can be mapped; unpack it", "gzip"
            )
    with opened(path) as (header, _, _):
        if not header.data_bytes:  # the system refuses to map zero bytes
            return np.frombuffer(b"", header.dtype).reshape(header.shape)
        return np.memmap(path, header.dtype, "r", header.header_bytes, header.shape)


@contextmanager
def opened(source: Source) -> Iterator[tuple[Header, Readable, str]]:
    """Open a source: its checked header, a reader that stands at the first element, its name."""
    file, name = _as_file(source)
    with file:
        file_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        packed = file.read(2) == MAGIC
        file.seek(0)
        reader: Readable = GzipReader(file, name) if packed else file
        inside = f"{name} (inflated)" if packed else name
        header = read_header(lambda count: _read(reader, count), inside)
        _check_length(header, file_bytes, packed, inside)
        yield header, reader, inside


def _allocate(header: Header, name: str) -> np.ndarray:
    """Return the array to fill; its pages become memory only as elements arrive."""
    try:
        return np.empty(header.shape, header.dtype.newbyteorder("="))
    except MemoryError as error:
        expected = "dimensions for which this machine has memory"
        raise IdxError(name, 4, expected, f"{_claim(header)} ({error})") from error


def _read_elements(reader: Readable, out: np.ndarray, header: Header, name: str) -> None:
    """Fill ``out``, the flat array; NumPy reverses bytes as it copies, several times as fast as in place."""
    if header.dtype.isnative:
        _read_exactly(reader, out.view(np.uint8), header, name, 0)
        return
    if isinstance(reader, _Memory):
        out[:] = np.frombuffer(reader.take(header.data_bytes), header.dtype)
        return
    block = np.empty(_BLOCK_BYTES // out.itemsize, header.dtype)
    for start in range(0, len(out), len(block)):
        part = out[start : start + len(block)]
        stored = block[: len(part)]
        _read_exactly(reader, stored.view(np.uint8), header, name, start * out.itemsize)
        part[:] = stored


def _read_exactly(reader: Readable, data: np.ndarray, header: Header, name: str, start: int) -> None:
    """Fill ``data`` (bytes,) with the elements from byte ``start`` of all elements on."""
    found = _fill(reader, data.data)
    if found < data.size:
        expected = f"{header.data_bytes} bytes for {_claim(header)}"
        raise IdxError(name, header.header_bytes + start + found, expected, f"the end after {start + found}")


def _read_end(reader: Readable, header: Header, name: str) -> None:
    """Raise IdxError if more bytes follow the elements or a checksum after them differs."""
    if _read(reader, 1):
        end = header.header_bytes + header.data_bytes
        raise IdxError(name, end, f"the end, after {_claim(header)}", "more bytes")


class _Memory(io.RawIOBase):
    """Bytes as a file; unlike `io.BytesIO` it can hand out a stretch of them without a copy."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        plain = view.nbytes and view.c_contiguous  # others cannot be cast
        self._data = view.cast("B") if plain else memoryview(view.tobytes())
        self._at = 0

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        return self._at

    def readinto(self, view: Any) -> int:
        data = self.take(len(view))
        view[: len(data)] = data
        return len(data)

    def take(self, count: int) -> memoryview:
        """Return the next ``count`` bytes, fewer only at the end."""
        data = self._data[self._at : self._at + count]
        self._at += len(data)
        return data


def _as_file(source: Source) -> tuple[Any, str]:
    if isinstance(source, (str, os.PathLike)):
        return open(source, "rb"), os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _Memory(source), "<bytes>"
    return _Memory(source.read()), str(getattr(source, "name", "<stream>"))


def _check_length(header: Header, file_bytes: int, packed: bool, name: str) -> None:
    needed = header.header_bytes + header.data_bytes
    if packed and needed > file_bytes * MAX_RATIO:
        found = f"a gzip file of {file_bytes} bytes, which holds {file_bytes * MAX_RATIO} at the very most"
        raise IdxError(name, 4, f"{needed} bytes for {_claim(header)}", found)
    if not packed and needed != file_bytes:
        expected = f"a file of {needed} bytes for {_claim(header)}"
        raise IdxError(name, min(needed, file_bytes), expected, f"{file_bytes} bytes")


def _claim(header: Header) -> str:
    return f"shape {header.shape} of {header.dtype.name}"


def _read(reader: Readable, count: int) -> bytes:
    data = bytearray(count)
    return bytes(data[: _fill(reader, memoryview(data))])


def _fill(reader: Readable, view: memoryview) -> int:
    """Read until ``view`` is full or the reader at its end; return the number of bytes."""
    filled = 0
    while filled < len(view) and (count := reader.readinto(view[filled:])):
        filled += count
    return filled
