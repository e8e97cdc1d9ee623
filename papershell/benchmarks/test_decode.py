"""IDX files to arrays: inflating, the byte order of wide elements, and the way to normalized pixels.

Inflating as a stream was expected to cost something; it wins instead, because a one-shot call fills 47 MB of
fresh pages, each of which faults, and 64 KiB at a time stay in the cache. A function that inflated on one core and
normalized on another took as long as the two steps (62.7 and 60.9 ms) and was removed: the floor is inflate and
checksum, 49 ms. So were byte-order kernels for Numba, PyTorch and CUDA, at 0.44 to 0.96 of `frombuffer + astype`.
The ceiling is what all cores reach with a stream each: one stream keeps one core, unless its blocks are inflated in
parallel. rapidgzip does that on two cores: without an index it searches for blocks and inflates with unknown bytes
before them (105 ms; `read_idx` takes 64); an index of 0.75 MB spares it both (41 ms), but must be made in a whole pass
before, and kept beside the file. A file that is read so often is better kept inflated: `map_idx` inflates nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papershell.benchmarks.case import Case, Work, against
from papershell.benchmarks.measure import Measure
from papershell.benchmarks.peers import load_data
from papershell.kernels import normalize, read_idx
from papershell.kernels.backends import cpu_count

SHAPE = (60_000, 784)
HEADER_BYTES = 16


def isal(path: Path) -> np.ndarray:
    """The bare library: bytes of the whole file, no check but the checksum."""
    from isal import isal_zlib

    return _pixels(isal_zlib.decompress(path.read_bytes(), 31))


def libdeflate(path: Path) -> np.ndarray:
    """The same by libdeflate."""
    deflate = pytest.importorskip("deflate")
    return _pixels(deflate.gzip_decompress(path.read_bytes()))


def rapidgzip(path: Path, index: bytes = b"") -> np.ndarray:
    """The blocks of the file on all cores, into memory of the right size; with an index, where they begin is known."""
    library = pytest.importorskip("rapidgzip")
    out = np.empty(HEADER_BYTES + SHAPE[0] * SHAPE[1], np.uint8)
    with library.open(str(path), parallelization=cpu_count()) as file:
        if index:
            file.import_index(io.BytesIO(index))
        file.readinto(out.data)
    return _pixels(out)


@cache
def block_index(path: Path) -> bytes:
    """Where the blocks begin and the 32 KiB before each, which rapidgzip finds in a whole pass; not timed."""
    target = io.BytesIO()
    with pytest.importorskip("rapidgzip").open(str(path), parallelization=cpu_count()) as file:
        file.export_index(target)
    return target.getvalue()


def _pixels(data: Any) -> np.ndarray:
    return np.frombuffer(data, np.uint8, offset=HEADER_BYTES).reshape(SHAPE)


LOADERS: dict[str, Callable[[Path], Any]] = {
    "gzip + struct + frombuffer": load_data,
    "isal, bare": isal,
    "libdeflate, bare": libdeflate,
    "rapidgzip, all cores": rapidgzip,
    "rapidgzip, all cores, with an index": lambda path: rapidgzip(path, block_index(path)),
    "read_idx": lambda path: read_idx(path).reshape(SHAPE),
}


@pytest.mark.parametrize("case", LOADERS)
def test_decode(measure: Measure, images_path: Path, images: np.ndarray, case: str) -> None:
    calls = {name: partial(load, images_path) for name, load in LOADERS.items()}
    work = Work(moved_bytes=images.nbytes, ceiling="inflate, all cores")
    measure(
        Case.among(
            calls, case, group="decode MNIST", error=against(images), tolerance=0, dtype="uint8", work=work
        )
    )  # fmt: skip


NORMALIZED: dict[str, Callable[[Path], Any]] = {
    "load_data / 255.0": lambda path: load_data(path) / 255.0,
    "normalize(read_idx), float32": lambda path: normalize(read_idx(path)).reshape(SHAPE),
    "normalize(read_idx), float64": lambda path: normalize(read_idx(path), dtype="float64").reshape(SHAPE),
}


@pytest.mark.parametrize("case", NORMALIZED)
def test_decode_and_normalize(measure: Measure, images_path: Path, images: np.ndarray, case: str) -> None:
    calls = {name: partial(load, images_path) for name, load in NORMALIZED.items()}
    dtype = "float32" if "float32" in case else "float64"
    measure(
        Case.among(
            calls, case, group="decode and normalize MNIST", error=against(images / 255), dtype=dtype,
            tolerance=2 * float(np.finfo(dtype).eps), work=Work(images.nbytes, ceiling="inflate, all cores"),
        )
    )  # fmt: skip


@cache
def wide_file(dtype: str) -> tuple[bytes, np.ndarray]:
    """An uncompressed IDX file of 32 MiB, and its values."""
    code = {"int16": 11, "int32": 12, "float64": 14}[dtype]
    values = np.random.default_rng(0).integers(-1000, 1000, (32 << 20) // np.dtype(dtype).itemsize)
    big = values.astype(np.dtype(dtype).newbyteorder(">"))
    return bytes([0, 0, code, 1]) + len(values).to_bytes(4, "big") + big.tobytes(), values.astype(dtype)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float64"])
@pytest.mark.parametrize("case", ["frombuffer + astype", "read_idx"])
def test_byte_order(measure: Measure, tmp_path: Path, case: str, dtype: str) -> None:
    file, values = wide_file(dtype)
    (path := tmp_path / "wide.idx").write_bytes(file)
    stored = np.dtype(dtype).newbyteorder(">")
    calls: dict[str, Callable[[], Any]] = {
        "frombuffer + astype": lambda: np.frombuffer(path.read_bytes(), stored, offset=8).astype(dtype),
        "read_idx": lambda: read_idx(path),
    }
    measure(
        Case.among(
            calls, case, group=f"byte order, {dtype}", error=against(values), tolerance=0, dtype=dtype,
            work=Work(moved_bytes=2 * values.nbytes, ceiling="copy, new pages"),
        )
    )  # fmt: skip
