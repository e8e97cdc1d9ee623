"""gzip members (RFC 1952) inflated as a stream, straight into memory that the caller owns.

Streaming beats the one-shot calls of isal and libdeflate: their output is a fresh object,
each page of which faults once, and it must be copied to become an array; here 64 KiB at a time
are inflated, checked and moved while they lie in the cache. Nor is a size needed beforehand, so the
trailer's size field is only ever compared, never believed.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any, BinaryIO

from kernels.idx.header import IdxError

try:
    _library: Any = importlib.import_module("isal.isal_zlib")
except ImportError:
    _library = zlib

MAGIC = b"\x1f\x8b"
MAX_RATIO = 1032
"""Deflate's limit: at best two bits stand for 258 bytes."""

_INPUT_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18
_HAS_HEADER_CRC, _HAS_EXTRA, _HAS_NAME, _HAS_COMMENT, _RESERVED = 0x02, 0x04, 0x08, 0x10, 0xE0


class GzipReader:
    """The inflated content of a gzip file of one or several members.

    Parameters
    ----------
    file : binary file at the first member's first byte.
    source : its name in error messages.
    """

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file = file
        self._source = source
        self._input = b""  # compressed bytes read and not yet used
        self._offset = 0  # of the first of them in the file
        self._inflater: Any = None
        self._crc = self._length = 0

    def readinto(self, view: memoryview) -> int:
        """Fill the start of ``view`` (bytes) and return how many bytes; 0 only at the sound end.

        Raises
        ------
        IdxError
            The stream is cut, corrupt, followed by other bytes, or contradicts its checksums.
        """
        while self._inflater or self._open_member():
            data = self._inflate(min(len(view), _OUTPUT_BYTES))
            if self._inflater.eof:
                self._close_member()
            if data:
                view[: len(data)] = data
                return len(data)
        return 0

    def _inflate(self, limit: int) -> bytes:
        if not self._input and not self._read_more():
            raise self._error("more deflate data", "the end of the file")
        before = len(self._input)
        try:
            data = self._inflater.decompress(self._input, limit)
        except _library.error as error:
            raise self._error("deflate data", f"a fault within the next {before} bytes ({error})") from error
        self._input = self._inflater.unused_data or self._inflater.unconsumed_tail
        self._offset += before - len(self._input)
        self._crc = _library.crc32(data, self._crc)
        self._length += len(data)
        return data

    def _open_member(self) -> bool:
        """Read a member's header; return whether there was one more."""
        if not self._input and not self._read_more():
            return False
        start, crc = self._offset, 0

        def field(count: int) -> bytes:
            nonlocal crc
            data = self._take(count, "a whole gzip header")
            crc = zlib.crc32(data, crc)
            return data

        fixed = field(2)
        if fixed != MAGIC:
            raise IdxError(
                self._source, start, "a gzip member, 1f 8b, or the end of the file", fixed.hex(" ")
            )
        method, flags = field(8)[:2]
        if method != 8 or flags & _RESERVED:
            found = f"method {method} with flags 0x{flags:02X}"
            raise IdxError(self._source, start + 2, "method 8 (deflate) without reserved flags", found)
        if flags & _HAS_EXTRA:
            field(int.from_bytes(field(2), "little"))
        for flag in (_HAS_NAME, _HAS_COMMENT):
            while flags & flag and field(1) != b"\0":
                pass
        if flags & _HAS_HEADER_CRC:
            self._check(crc & 0xFFFF, 2, "gzip header checksum")
        self._inflater = _library.decompressobj(-15)
        self._crc = self._length = 0
        return True

    def _close_member(self) -> None:
        self._inflater = None
        self._check(self._crc, 4, "CRC-32")
        self._check(self._length & 0xFFFFFFFF, 4, "inflated length (modulo 2^32)")

    def _check(self, computed: int, size: int, what: str) -> None:
        start = self._offset
        stored = int.from_bytes(self._take(size, f"the {what}"), "little")
        if stored != computed:
            raise IdxError(
                self._source, start, f"{what} {computed:#x} as computed from the data", f"{stored:#x}"
            )

    def _take(self, count: int, what: str) -> bytes:
        """Return exactly ``count`` compressed bytes."""
        while len(self._input) < count and self._read_more():
            pass
        if len(self._input) < count:
            raise self._error(f"{count} bytes, {what}", f"only {len(self._input)}")
        data, self._input = self._input[:count], self._input[count:]
        self._offset += count
        return data

    def _read_more(self) -> bool:
        data = self._file.read(_INPUT_BYTES)
        self._input += data
        return bool(data)

    def _error(self, expected: str, found: str) -> IdxError:
        return IdxError(self._source, self._offset, expected, found)
