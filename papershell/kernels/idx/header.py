"""The IDX header: two zero bytes, element type, number of dimensions, sizes, all big-endian.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats".
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ELEMENT_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_RANK = 64  # NumPy's limit; the format's own is 255


class IdxError(ValueError):
    """An IDX or gzip file is malformed; the message gives the place, the expected and the found bytes.

    Attributes
    ----------
    source : the file's path, or a name for bytes and streams; ``" (inflated)"`` is added if the
        offset counts inflated bytes.
    offset : byte offset of the fault.
    expected, found : the content of a sound file at that place, and the content of this one.
    """

    def __init__(self, source: str, offset: int, expected: str, found: str) -> None:
        super().__init__(source, offset, expected, found)
        self.source, self.offset, self.expected, self.found = source, offset, expected, found

    def __str__(self) -> str:
        return f"{self.source}: at byte {self.offset}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Header:
    """The content of an IDX header: ``dtype`` as on disk (big-endian) and ``shape``."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def header_bytes(self) -> int:
        """Return the header's own length, which is the offset of the first element."""
        return 4 + 4 * len(self.shape)

    @property
    def data_bytes(self) -> int:
        """Return the length of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(read: Callable[[int], bytes], source: str) -> Header:
    """Return the header at the start of a stream, whose ``read(k)`` returns k bytes, fewer only at its end.

    Raises
    ------
    IdxError
        Cut short, not IDX at all, an unknown element type, or a shape that no array can have.
    """
    magic = read(4)
    if magic[:2] != b"\0\0"[: len(magic)]:
        raise IdxError(source, 0, "the two zero bytes that open an IDX file", _describe(magic))
    if len(magic) < 4:
        raise IdxError(source, 0, "the 4 bytes of an IDX magic number", _describe(magic))
    if magic[2] not in ELEMENT_TYPES:
        known = ", ".join(f"0x{code:02X}" for code in ELEMENT_TYPES)
        raise IdxError(source, 2, f"an element type among {known}", f"0x{magic[2]:02X}")
    dtype, rank = ELEMENT_TYPES[magic[2]], magic[3]
    if rank > MAX_RANK:
        raise IdxError(source, 3, f"at most {MAX_RANK} dimensions, NumPy's limit", f"{rank}")
    sizes = read(4 * rank)
    if len(sizes) < 4 * rank:
        raise IdxError(source, 4, f"{rank} dimensions in {4 * rank} bytes", f"only {len(sizes)} bytes")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if math.prod(size for size in shape if size) * dtype.itemsize > sys.maxsize:
        raise IdxError(source, 4, "dimensions whose product a machine can address", f"{shape}")
    return Header(dtype, shape)


def _describe(start: bytes) -> str:
    if not start:
        return "no byte: it is empty"
    text = f"{len(start)} bytes, {start.hex(' ')}"
    return f"{text} (an HTML page or other markup?)" if start.lstrip().startswith(b"<") else text
