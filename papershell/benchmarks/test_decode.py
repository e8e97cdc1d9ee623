"""IDX files to arrays: inflating, the byte order of wide elements, and the way to normalized pixels.

Inflating as a stream was expected to cost something; it wins instead, because a one-shot call fills 47 MB of
fresh pages, each of which faults, and 64 KiB at a time stay in the cache. A function that inflated on one core and
normalized on another took as long as the two steps (62.7 and 60.9 ms) and was removed: the floor is inflate and
checksum, 49 ms. So were byte-order kernels for Numba, PyTorch and CUDA, at 0.44 to 0.96 of `frombuffer + astype`.
The ceiling is what all cores reach with a stream each: one stream keeps one core.
"""

from __future__ import annotations

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


def _pixels(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8, offset=HEADER_BYTES).reshape(SHAPE)


LOADERS: dict[str, Callable[[Path], Any]] = {
    "gzip + struct + frombuffer": load_data,
    "isal, bare": isal,
    "libdeflate, bare": libdeflate,
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
