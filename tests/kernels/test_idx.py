"""IDX files: round trips, malformed input, memory, MNIST; expected values from gzip, struct and NumPy."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from papershell.kernels import IdxError, map_idx, read_idx, write_idx
from papershell.kernels.backends import REGISTRY, available_backends, is_available

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def encode(array: np.ndarray) -> bytes:
    """The file format, written down a second time."""
    head = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def to_numpy(array) -> np.ndarray:
    """The values on the host, whatever library holds them."""
    for leave_device in ("get", "copy_to_host", "numpy"):
        if hasattr(array, leave_device):
            return getattr(array, leave_device)()
    return array


IDX_ARRAYS = st.sampled_from(sorted(CODES)).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5))
)


@pytest.mark.parametrize("backend", REGISTRY)
@given(array=IDX_ARRAYS, members=st.integers(0, 3))
@settings(max_examples=60)
def test_every_type_rank_and_container(backend: str, array: np.ndarray, members: int) -> None:
    if not is_available(backend):
        pytest.skip(available_backends()[backend])
    data = encode(array)
    if members:
        edges = [len(data) * part // members for part in range(members + 1)]
        data = b"".join(gzip.compress(data[a:b]) for a, b in pairwise(edges))
    result = to_numpy(read_idx(data, backend=backend))
    assert result.shape == array.shape
    assert result.dtype == array.dtype and result.dtype.isnative
    assert result.tobytes() == array.tobytes()


@given(array=IDX_ARRAYS, order=st.sampled_from("<>"), packed=st.booleans())
@settings(max_examples=60)
def test_what_is_written_is_the_format(tmp_path_factory, array: np.ndarray, order: str, packed: bool) -> None:
    path = tmp_path_factory.mktemp("written") / ("a.idx.gz" if packed else "a.idx")
    write_idx(path, array.astype(array.dtype.newbyteorder(order)))
    written = path.read_bytes()
    assert (gzip.decompress(written) if packed else written) == encode(array)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_written_files_are_reproducible_and_layout_does_not_matter(tmp_path: Path) -> None:
    array = np.arange(60, dtype="int16").reshape(3, 4, 5)
    write_idx(tmp_path / "c.gz", array)
    write_idx(tmp_path / "f.gz", np.asfortranarray(array))
    assert (tmp_path / "c.gz").read_bytes() == (tmp_path / "f.gz").read_bytes()
    assert np.array_equal(read_idx(tmp_path / "f.gz"), array)


@pytest.mark.parametrize("dtype", ["float16", "complex64", "U3", "datetime64[s]"])
def test_types_without_a_place_in_the_format_leave_the_old_file(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"a\.idx: IDX holds uint8, .*; convert with array\.astype"):
        write_idx(path, np.zeros(3, dtype))
    assert path.read_bytes() == b"old"


SMALLEST = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "int16": (-129, 255),
    "int32": (-(2**31), 2**31 - 1),
}


@pytest.mark.parametrize("dtype", ["bool", "uint16", "uint32", "uint64", "int64"])
@given(data=st.data())
@settings(max_examples=40)
def test_other_integers_are_stored_without_loss_or_refused(tmp_path_factory, dtype: str, data) -> None:
    path = tmp_path_factory.mktemp("written") / "labels.idx"
    shapes = arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5)
    array = data.draw(arrays.arrays(dtype, shapes))
    fits = all(-(2**31) <= value < 2**31 for value in array.reshape(-1).tolist())
    if not fits:
        with pytest.raises(
            ValueError, match=r"labels\.idx: IDX holds integers from -2\^31 to 2\^31 - 1, found"
        ):
            write_idx(path, array)
        assert not path.exists()
        return
    write_idx(path, array)
    assert np.array_equal(read_idx(path), array)


@pytest.mark.parametrize("dtype", SMALLEST)
def test_labels_of_int64_take_the_smallest_type_that_holds_them(tmp_path: Path, dtype: str) -> None:
    write_idx(tmp_path / "labels.idx", np.array(SMALLEST[dtype], np.int64))
    assert read_idx(tmp_path / "labels.idx").dtype == dtype


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"there is no folder {tmp_path / 'gone'}; make it first"):
        write_idx(tmp_path / "gone" / "a.idx", np.zeros(3, "uint8"))


def test_a_write_that_breaks_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_idx(path, np.zeros(3, "uint8"))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.idx"]


@pytest.mark.parametrize("packed", [False, True])
def test_every_kind_of_source(tmp_path: Path, packed: bool) -> None:
    array = np.arange(12, dtype="int32").reshape(3, 4)
    data = gzip.compress(encode(array)) if packed else encode(array)
    path = tmp_path / "misnamed.txt"
    path.write_bytes(data)
    stream = io.BytesIO(b"before" + data)
    stream.seek(6)
    for source in (path, str(path), data, bytearray(data), memoryview(data), path.open("rb"), stream):
        result = read_idx(source)
        assert np.array_equal(result, array)
        result[:] = 0  # writable, and nobody else's memory
    assert path.read_bytes() == data


def test_gzip_header_fields(tmp_path: Path) -> None:
    array = np.arange(5, dtype="uint8")
    body = gzip.compress(encode(array), mtime=0)[10:]
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x03\0ext" + b"name\0" + b"comment\0"
    crc = struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    assert np.array_equal(read_idx(head + crc + body), array)
    with pytest.raises(IdxError, match="gzip header checksum"):
        read_idx(head + b"\0\0" + body)


GOOD = encode(np.arange(6, dtype="uint8").reshape(2, 3))
PACKED = gzip.compress(GOOD, mtime=0)
MALFORMED = {
    "empty": (b"", 0, "4 bytes of an IDX magic number", "it is empty"),
    "html": (b"<!DOCTYPE html><html>", 0, "two zero bytes", "an HTML page"),
    "packed html": (gzip.compress(b"<html>"), 0, "two zero bytes", "an HTML page"),
    "wrong magic": (b"\x01\0\x08\x01", 0, "two zero bytes", "01 00 08 01"),
    "cut magic": (GOOD[:3], 0, "4 bytes of an IDX magic number", "3 bytes, 00 00 08"),
    "unknown type": (b"\0\0\x0a\x01\0\0\0\1x", 2, "0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E", "0x0A"),
    "rank": (b"\0\0\x08\xff" + bytes(4 * 255), 3, "at most 64 dimensions", "255"),
    "cut sizes": (GOOD[:9], 4, "2 dimensions in 8 bytes", "only 5 bytes"),
    "cut data": (GOOD[:-2], 16, "a file of 18 bytes for shape (2, 3) of uint8", "16 bytes"),
    "trailing": (GOOD + b"x", 18, "a file of 18 bytes", "19 bytes"),
    "overflow": (b"\0\0\x0e\x03" + b"\xff" * 12, 4, "dimensions whose product", "4294967295, 4294967295"),
    "huge": (b"\0\0\x08\x01\xff\xff\xff\xff" + GOOD, 26, "a file of 4294967303 bytes", "26 bytes"),
    "packed huge": (
        gzip.compress(b"\0\0\x08\x01\xff\xff\xff\xff"),
        4,
        "4294967303 bytes",
        "at the very most",
    ),
    "packed cut data": (gzip.compress(GOOD[:-2]), 16, "6 bytes for shape (2, 3)", "the end after 4"),
    "packed trailing": (gzip.compress(GOOD + b"x"), 18, "the end, after shape (2, 3)", "more bytes"),
    "after the member": (PACKED + b"garbage", len(PACKED), "a gzip member, 1f 8b, or the end", "67 61"),
    "wrong crc": (PACKED[:-8] + b"abcd" + PACKED[-4:], len(PACKED) - 8, "CRC-32", "0x64636261"),
    "isize above": (PACKED[:-4] + b"\xff\xff\xff\xff", len(PACKED) - 4, "inflated length", "0xffffffff"),
    "isize below": (PACKED[:-4] + b"\1\0\0\0", len(PACKED) - 4, "inflated length (modulo 2^32) 0x12", "0x1"),
    "cut trailer": (PACKED[:-1], len(PACKED) - 4, "4 bytes, the inflated length", "only 3"),
    "cut stream": (PACKED[:-10], len(PACKED) - 10, "more deflate data", "the end of the file"),
    "gzip magic alone": (PACKED[:2], 2, "a whole gzip header", "only 0"),
    "method": (b"\x1f\x8b\x07" + PACKED[3:], 2, "method 8", "method 7"),
    "reserved flag": (b"\x1f\x8b\x08\x80" + PACKED[4:], 2, "reserved flags", "0x80"),
    "corrupt": (PACKED[:10] + b"\xff" * 20, 10, "deflate data", "a fault"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_say_where_what_and_what_instead(tmp_path: Path, name: str) -> None:
    data, offset, expected, found = MALFORMED[name]
    path = tmp_path / "bad.gz"
    path.write_bytes(data)
    with pytest.raises(IdxError) as caught:
        read_idx(path)
    error = caught.value
    assert error.offset == offset
    assert expected in error.expected
    assert found in error.found
    assert str(error).startswith(str(path))
    for part in (f"at byte {offset}", expected, found):
        assert part in str(error)


@pytest.mark.parametrize("data", [GOOD, PACKED, PACKED + gzip.compress(b"")], ids=["raw", "gzip", "members"])
def test_cut_at_every_byte(data: bytes) -> None:
    for length in range(len(data)):
        if data[:length] == PACKED:
            continue
        with pytest.raises(IdxError):
            read_idx(data[:length])


@given(
    data=st.sampled_from([GOOD, PACKED, encode(np.float64([[1.5], [-2]])), gzip.compress(GOOD[:9]) + PACKED]),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 30),
    tail=st.binary(max_size=3),
)
@settings(max_examples=600)
def test_mutated_files_are_refused_or_whole_arrays(data: bytes, changes, cut: int, tail: bytes) -> None:
    mutated = bytearray(data)
    for place, value in changes:
        mutated[place % len(mutated)] = value
    mutated = mutated[: max(len(mutated) - cut, 0)] + tail
    try:
        array = read_idx(bytes(mutated))
    except IdxError:
        return
    assert array.nbytes == np.prod(array.shape) * array.itemsize


def test_lies_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    """A 200 MB bomb, sizes that the file could not hold, and sizes that it could but does not."""
    small = b"\0\0\x08\x01\0\0\0\2"
    large = b"\0\0\x08\x01\x40\0\0\0"  # 1 GiB
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(small + bytes(200_000_000), 1))
    (tmp_path / "claim.gz").write_bytes(gzip.compress(large + os.urandom(100_000)))
    (tmp_path / "reserve.gz").write_bytes(gzip.compress(large + os.urandom(2_000_000), 1))
    (tmp_path / "isize.gz").write_bytes(gzip.compress(large)[:-4] + b"\xff\xff\xff\xff")
    script = """
        import resource, sys, time
        from papershell.kernels import IdxError, read_idx
        for path in sys.argv[1:]:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.process_time()
            try:
                read_idx(path)
            except IdxError:
                seconds = time.process_time() - start
                print(seconds < 1.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16_384)
    """
    files = sorted(map(str, tmp_path.iterdir()))
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *files], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["True"] * 2 * len(files)


def test_a_long_name_in_the_gzip_header_ends_soon() -> None:
    start = time.process_time()
    with pytest.raises(IdxError, match="the zero byte that ends a name"):
        read_idx(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 30_000_000)
    assert time.process_time() - start < 1.0  # the promise for any malformed file, in CPU time


def test_without_isal_the_answers_are_the_same() -> None:
    script = """
        import gzip, sys
        sys.modules["isal"] = None
        from papershell.kernels import IdxError, read_idx
        packed = gzip.compress(b"\\0\\0\\x08\\x01\\0\\0\\0\\3abc")
        assert read_idx(packed).tobytes() == b"abc"
        for bad in (packed[:-1], packed[:12] + b"\\xff" + packed[13:], packed + b"x"):
            try:
                read_idx(bad)
            except IdxError:
                print("refused")
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert run.stdout.split() == ["refused"] * 3, run.stderr


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_wide_elements_over_many_blocks(tmp_path: Path, dtype: str, packed: bool) -> None:
    array = (np.random.default_rng(3).normal(size=(100_003, 3)) * 1000).astype(dtype)
    data = gzip.compress(encode(array), 1) if packed else encode(array)
    (tmp_path / "a.idx").write_bytes(data)
    assert np.array_equal(read_idx(tmp_path / "a.idx"), array)
    if packed:
        data = gzip.compress(encode(array)[:-5], 1)
        with pytest.raises(
            IdxError, match=f"{array.nbytes} bytes for .*, found the end after {array.nbytes - 5}"
        ):
            read_idx(data)


def test_memory_in_any_layout_is_a_source() -> None:
    array = np.arange(12, dtype="int32").reshape(3, 4)
    spread = np.repeat(np.frombuffer(encode(array), np.uint8), 2)
    assert np.array_equal(read_idx(memoryview(spread)[::2]), array)
    assert np.array_equal(read_idx(memoryview(np.frombuffer(encode(array), np.uint32))), array)
    with pytest.raises(IdxError, match="it is empty"):
        read_idx(memoryview(np.zeros((0, 3), np.uint8)))


@pytest.mark.mnist
@pytest.mark.parametrize("name", MNIST_SHA256)
def test_mnist(mnist_folder: Path, name: str) -> None:
    path = next(mnist_folder.rglob(name))
    packed = path.read_bytes()
    assert hashlib.sha256(packed).hexdigest() == MNIST_SHA256[name]
    raw = gzip.decompress(packed)
    rank = raw[3]
    expected = np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(
        struct.unpack_from(f">{rank}I", raw, 4)
    )
    assert expected.shape == ((60000 if "train" in name else 10000), 28, 28)[:rank]
    result = read_idx(path)
    assert result.dtype == np.uint8 and np.array_equal(result, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch", "cupy", "numba-cuda"])
@pytest.mark.parametrize("dtype", CODES)
def test_device_back_ends_give_what_was_written(cuda, dtype: str, backend: str) -> None:
    array = (np.random.default_rng(0).normal(size=(7, 31)) * 50).astype(dtype)
    result = read_idx(encode(array), backend=backend)
    assert np.array_equal(to_numpy(result.cpu() if backend == "torch" else result), array)


def not_gzip(data: bytes) -> bool:
    return data[:2] != b"\x1f\x8b"


@given(array=IDX_ARRAYS)
@settings(max_examples=60)
def test_a_mapped_file_is_the_array_that_reading_gives(tmp_path_factory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("mapped") / "a.idx"
    path.write_bytes(encode(array))
    mapped = map_idx(path)
    assert mapped.shape == array.shape and mapped.dtype.name == array.dtype.name
    assert mapped.astype(array.dtype).tobytes() == array.tobytes()
    assert isinstance(mapped, np.memmap) == bool(array.size)
    assert not mapped.flags.writeable


@given(data=st.binary(max_size=40).filter(not_gzip) | IDX_ARRAYS.map(encode), cut=st.integers(0, 60))
@settings(max_examples=200)
def test_what_can_be_mapped_can_be_read_and_the_other_way_round(tmp_path_factory, data, cut: int) -> None:
    path = tmp_path_factory.mktemp("mapped") / "a.idx"
    path.write_bytes(data[:cut])
    try:
        expected = read_idx(path)
    except IdxError as error:
        with pytest.raises(IdxError, match=re.escape(str(error))):
            map_idx(path)
    else:
        assert map_idx(path).astype(expected.dtype).tobytes() == expected.tobytes()


def test_a_compressed_file_cannot_be_mapped(tmp_path: Path) -> None:
    write_idx(tmp_path / "a.gz", np.arange(4, dtype=np.uint8))
    with pytest.raises(IdxError, match=r"a\.gz: at byte 0: expected a raw IDX file.*unpack it.*found gzip"):
        map_idx(tmp_path / "a.gz")
