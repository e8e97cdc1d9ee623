"""gzip members (RFC 1952) inflated as a stream, straight into memory that the caller owns.

A stream takes less time than the one-shot calls of isal and libdeflate: their output is a fresh object,
each page of which faults once, and it must be copied to become an array; here 64 KiB at a time
are inflated, checked and moved while they lie in the cache. A stream also needs no size beforehand: the
trailer's size field is compared, never believed.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any, BinaryIO

from papershell.kernels.idx.header import IdxError

try:
    _library: Any = importlib.import_module("isal.isal_zlib")
except ImportError:
    _library = zlib

MAGIC = b"\x1f\x8b"
MAX_RATIO = 1032
"""Deflate's limit: at best two bits stand for 258 bytes."""

_INPUT_BYTES = 1 << 16  # read at a time: with what it inflates to, it fits into a core's second cache
_OUTPUT_BYTES = 1 << 18  # inflated at a time at most, so that a bomb fills no memory before it is noticed
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
        self._input = b""  # compressed bytes; those before _used have been inflated
        self._used = 0
        self._start = 0  # of _input in the file
        self._inflater: Any = None
        self._crc = self._length = 0

    def readinto(self, view: memoryview) -> int:
        """Fill the start of ``view`` (bytes) and return the number of bytes; 0 only at the sound end.

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

    @property
    def _offset(self) -> int:
        return self._start + self._used

    def _inflate(self, limit: int) -> bytes:
        if not self._more():
            raise self._error("more deflate data", "the end of the file")
        given = memoryview(self._input)[self._used :]
        try:
            data = self._inflater.decompress(given, limit)
        except _library.error as error:
            found = f"a fault within the next {len(given)} bytes ({error})"
            raise self._error("deflate data", found) from error
        self._used = len(self._input) - len(self._inflater.unused_data or self._inflater.unconsumed_tail)
        self._crc = _library.crc32(data, self._crc)
        self._length += len(data)
        return data

    def _open_member(self) -> bool:
        """Read a member's header; return whether there was one more."""
        if not self._more():
            return False
        start = self._offset
        magic = self._take(2, "a whole gzip header")
        if magic != MAGIC:
            raise IdxError(
                self._source, start, "a gzip member, 1f 8b, or the end of the file", magic.hex(" ")
            )
        fixed = self._take(8, "a whole gzip header")
        method, flags = fixed[:2]
        if method != 8 or flags & _RESERVED:
            found = f"method {method} with flags 0x{flags:02X}"
            raise IdxError(self._source, start + 2, "method 8 (deflate) without reserved flags", found)
        self._skip_optional_fields(flags, zlib.crc32(magic + fixed))
        self._inflater = _library.decompressobj(-15)
        self._crc = self._length = 0
        return True

    def _skip_optional_fields(self, flags: int, crc: int) -> None:
        if flags & _HAS_EXTRA:
            length = self._take(2, "the length of a gzip extra field")
            extra = self._take(int.from_bytes(length, "little"), "a gzip extra field")
            crc = zlib.crc32(length + extra, crc)
        for flag in (_HAS_NAME, _HAS_COMMENT):
            if flags & flag:
                crc = self._skip_text(crc)
        if flags & _HAS_HEADER_CRC:
            self._check(crc & 0xFFFF, 2, "gzip header checksum")

    def _skip_text(self, crc: int) -> int:
        """Skip a text and the zero byte that ends it; return ``crc`` continued over both."""
        end = -1
        while end < 0:
            if not self._more():
                raise self._error("the zero byte that ends a name in the gzip header", "the end of the file")
            end = self._input.find(b"\0", self._used)
            stop = end + 1 or len(self._input)
            crc = zlib.crc32(memoryview(self._input)[self._used : stop], crc)
            self._used = stop
        return crc

    def _close_member(self) -> None:
        self._inflater = None
        self._check(self._crc, 4, "CRC-32")
        self._check(self._length & 0xFFFFFFFF, 4, "inflated length (modulo 2^32)")

    def _check(self, computed: int, size: int, what: str) -> None:
        start = self._offset
        stored = int.from_bytes(self._take(size, f"the {what}"), "little")
        if stored != computed:
            expected = f"{what} {computed:#x} as computed from the data"
            raise IdxError(self._source, start, expected, f"{stored:#x}")

    def _take(self, count: int, what: str) -> bytes:
        """Return exactly ``count`` compressed bytes."""
        start, parts = self._offset, []
        missing = count
        while missing and self._more():
            parts.append(self._input[self._used : self._used + missing])
            self._used += len(parts[-1])
            missing -= len(parts[-1])
        if missing:
            raise IdxError(self._source, start, f"{count} bytes, {what}", f"only {count - missing}")
        return b"".join(parts)

    def _more(self) -> bool:
        """Return whether compressed bytes are left; read more if none are at hand."""
        if self._used == len(self._input):
            self._start += self._used
            self._input, self._used = self._file.read(_INPUT_BYTES), 0
        return bool(self._input)

    def _error(self, expected: str, found: str) -> IdxError:
        return IdxError(self._source, self._offset, expected, found)
