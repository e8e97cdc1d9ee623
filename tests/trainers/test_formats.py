"""Features and labels in .npy, .npz and .safetensors files: read as they are, or refused in one sentence."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papershell.trainers.datasets import DataError, load_dataset

ml_dtypes = pytest.importorskip("ml_dtypes")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

MOST_BYTES = (
    1 << 22
)  # that a refused file may take: what Python itself needs to open a file and raise an error
TYPES = ("uint8", "int8", "float16", "bfloat16", "float32", "float64")


def arrays(dtype: str = "float32", shape: tuple[int, ...] = (5,)) -> dict[str, np.ndarray]:
    """Features whose values every type holds, and labels of three classes."""
    X = np.random.default_rng(1).integers(0, 100, (18, *shape)).astype(np.dtype(dtype))
    y = np.arange(18) % 3
    return {"X_train": X[:12], "y_train": y[:12], "X_test": X[12:], "y_test": y[12:]}


def as_folder(place: Path, found: dict[str, np.ndarray]) -> Path:
    place.mkdir()
    for name, array in found.items():
        np.save(place / f"{name}.npy", array)
    return place


def as_npz(place: Path, found: dict[str, np.ndarray]) -> Path:
    np.savez(place.with_suffix(".npz"), **found)
    return place.with_suffix(".npz")


def as_compressed(place: Path, found: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(place.with_suffix(".npz"), **found)
    return place.with_suffix(".npz")


def as_tensors(place: Path, found: dict[str, np.ndarray]) -> Path:
    path = place.with_suffix(".safetensors")
    safetensors_numpy.save_file({name: np.ascontiguousarray(array) for name, array in found.items()}, path)
    return path


WRITERS = {"folder": as_folder, "npz": as_npz, "compressed npz": as_compressed, "safetensors": as_tensors}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_type_comes_back_from_every_kind_of_file(tmp_path, kind, dtype):
    given = arrays(dtype)
    data = load_dataset(WRITERS[kind](tmp_path / "mine", given))
    assert data.X_train.dtype.name == dtype and data.name == "mine" and data.classes.tolist() == [0, 1, 2]
    for name, array in given.items():
        np.testing.assert_array_equal(getattr(data, name), array)
    assert isinstance(data.X_train, np.memmap) == (kind in ("folder", "safetensors"))
    assert not data.are_images and data.image_shape == (5,)


@pytest.mark.parametrize("kind", WRITERS)
def test_one_data_set_has_one_fingerprint_in_every_kind_of_file(tmp_path, kind):
    data = load_dataset(WRITERS[kind](tmp_path / "mine", arrays()))
    other = load_dataset(as_npz(tmp_path / "other", arrays()))
    assert data.fingerprint == other.fingerprint
    changed = arrays()
    changed["y_test"] = changed["y_test"][::-1]
    assert load_dataset(WRITERS[kind](tmp_path / "changed", changed)).fingerprint != other.fingerprint


def test_a_file_of_a_folder_stands_for_the_folder(tmp_path):
    as_folder(tmp_path / "mine", arrays())
    data = load_dataset(tmp_path / "mine" / "X_train.npy")
    assert len(data.X_test) == 6 and data.name == "mine"


@pytest.mark.parametrize("names", [("x_train", "y_train"), ("X", "y")])
def test_data_without_a_test_part_and_other_spellings_are_taken(tmp_path, names):
    given = arrays()
    found = dict(zip(names, (given["X_train"], given["y_train"]), strict=True))
    data = load_dataset(as_npz(tmp_path / "mine", found))
    assert data.X_train.shape == (12, 5) and data.X_test.shape == (0, 5) and data.y_test.shape == (0,)


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_may_be_strings(tmp_path, kind):
    given = arrays()
    names = np.array(["bird", "cat", "Ärmel"])
    for part in ("y_train", "y_test"):
        given[part] = np.char.encode(names[given[part]], "utf-8") if kind == "S" else names[given[part]]
    data = load_dataset(as_folder(tmp_path / "mine", given))
    assert data.classes.tolist() == ["bird", "cat", "Ärmel"] and data.y_test.tolist()[:2] == ["bird", "cat"]
    assert data.fingerprint != load_dataset(as_npz(tmp_path / "numbers", arrays())).fingerprint


@pytest.mark.parametrize(
    ("shape", "image"), [((4, 6), True), ((4, 6, 3), True), ((3, 4, 6), True), ((4, 6, 2), False)]
)
def test_bytes_of_a_height_and_a_width_are_images(tmp_path, shape, image):
    data = load_dataset(as_npz(tmp_path / "mine", arrays("uint8", shape)))
    assert data.are_images == image and data.X_train.shape == (12, np.prod(shape))
    if image:
        drawn = data.pictures(data.X_test)
        assert drawn.shape[:3] == (6, 4, 6)
        np.testing.assert_array_equal(drawn.sum(axis=(1, 2)), arrays("uint8", shape)["X_test"].sum(
            axis=tuple(1 + i for i, n in enumerate(shape) if n != 3)))  # fmt: skip


def test_another_byte_order_and_fortrans_order_are_read(tmp_path):
    given = arrays()
    turned = given | {"X_train": np.asfortranarray(given["X_train"]), "X_test": given["X_test"].astype(">f4")}
    data = load_dataset(as_folder(tmp_path / "mine", turned))
    assert data.X_test.dtype.isnative
    np.testing.assert_array_equal(data.X_train, given["X_train"])
    np.testing.assert_array_equal(data.X_test, given["X_test"])


def with_nan(dtype: str) -> dict[str, np.ndarray]:
    found = arrays(dtype)
    found["X_test"][4, 2] = np.nan if dtype != "float32" else -np.inf
    return found


class Bomb:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


MISFITS = {
    "fewer labels": (
        arrays() | {"y_train": np.arange(11) % 3},
        "y_train of .* holds 11 labels for 12 samples",
    ),
    "labels of one-hot rows": (arrays() | {"y_test": np.eye(6)}, "y_test of .* 2-dimensional float64"),
    "labels that are floats": (arrays() | {"y_train": np.zeros(12)}, "labels are integers or strings"),
    "other features": (arrays() | {"X_test": np.zeros((6, 4), np.float32)}, r"shape \(4,\) but X_train"),
    "bytes against floats": (arrays() | {"X_test": np.zeros((6, 5), np.uint8)}, "bytes count as 0 to 1"),
    "an unknown label": (arrays() | {"y_test": np.array([0, 1, 2, 7, 0, 1])}, "y_test of .* the label 7"),
    "strings against numbers": (arrays() | {"y_test": np.array(list("012012"))}, "use one kind"),
    "one class": (arrays() | {"y_train": np.zeros(12, int)}, "one class only"),
    "one row": (arrays() | {"X_train": np.zeros(12, np.float32)}, r"the shape \(12,\)"),
    "no row": (arrays() | {"X_test": np.zeros((0, 5), np.float32)}, r"the shape \(0, 5\)"),
    "complex features": (arrays() | {"X_train": np.zeros((12, 5), complex)}, "complex128 values"),
    "dates": (arrays() | {"X_train": np.zeros((12, 5), "M8[s]")}, r"datetime64\[s\] values"),
    "NaN in float16": (with_nan("float16"), "X_test of .* NaN or infinity, first in row 4"),
    "NaN in bfloat16": (with_nan("bfloat16"), "X_test of .* NaN or infinity, first in row 4"),
    "infinity in float32": (with_nan("float32"), "X_test of .* NaN or infinity, first in row 4"),
    "no labels": ({"X_train": np.zeros((3, 2))}, "has no y_train and no X_test and no y_test"),
    "a test part without labels": ({n: a for n, a in arrays().items() if n != "y_test"}, "has no y_test"),
    "other names": ({"features": np.zeros((3, 2))}, "only features; call the arrays X_train"),
}


@pytest.mark.parametrize("kind", ["folder", "npz", "safetensors"])
@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_together_is_one_sentence_naming_file_and_array(tmp_path, case, kind):
    given, message = MISFITS[case]
    if kind == "safetensors" and any(array.dtype.kind in "McU" for array in given.values()):
        pytest.skip("a safetensors file cannot hold it")
    if kind == "folder" and case == "other names":
        pytest.skip("such a folder is one of IDX files")
    path = WRITERS[kind](tmp_path / "mine", given)
    with pytest.raises(DataError, match=message) as failure:
        load_dataset(path)
    assert str(path) in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize("kind", ["folder", "npz"])
@pytest.mark.parametrize("name", ["X_train", "y_train"])
def test_objects_are_not_unpickled(tmp_path, kind, name):
    given = arrays() | {name: np.array([Bomb(tmp_path / "exploded")] * 12, dtype=object)}
    with pytest.raises(DataError, match="Python objects"):
        load_dataset(WRITERS[kind](tmp_path / "mine", given))
    assert not (tmp_path / "exploded").exists()


@contextmanager
def little_memory() -> Iterator[None]:
    """The block takes no more than `MOST_BYTES` at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def npy(shape: str, dtype: str = "<f4", version: bytes = b"\1\0", data: bytes = bytes(240)) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    size = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + text + data


LIES = {
    "cut": (npy("(12, 5)")[:-1], "240 bytes, but 239 follow"),
    "longer": (npy("(12, 5)") + b"x", "240 bytes, but 241 follow"),
    "large": (npy("(12, 50000000000)"), "claims the shape"),
    "beyond 64 bits": (npy("(12, 5, 2" + "0" * 19 + ")"), "claims the shape"),
    "negative": (npy("(-12, -5)"), "claims the shape"),
    "objects": (npy("(12, 5)", "|O"), "Python objects"),
    "a header of another version": (npy("(12, 5)", version=b"\2\0"), "another version"),
    "a long header": (b"\x93NUMPY\2\0\xff\xff\xff\xff" + b"x" * 99, "another version"),
    "brackets": (npy("(" * 60), "damaged|cannot be used"),
    "HTML": (b"<html>sign in</html>", "cannot be used"),
    "empty": (b"", "cannot be used"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_lying_npy_file_is_refused_before_memory_is_taken(tmp_path, case):
    content, message = LIES[case]
    path = as_folder(tmp_path / "mine", arrays()) / "X_train.npy"
    path.write_bytes(content)
    with little_memory(), pytest.raises(DataError, match=message) as failure:
        load_dataset(tmp_path / "mine")
    assert str(path) in str(failure.value) and "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy("(100, 100000)", data=bytes(40_000_000)), "more than 100 times the bytes"),
        (npy("(12, 50000000000)"), "claims the shape"),
        (npy("(12, 5)", "|O"), "Python objects"),
    ],
)
def test_an_npz_bomb_is_refused_before_memory_is_taken(tmp_path, member, message):
    path = as_compressed(tmp_path / "mine", {n: a for n, a in arrays().items() if n != "X_train"})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X_train.npy", member)
    del member
    with little_memory(), pytest.raises(DataError, match=message):
        load_dataset(path)


def tensors(header: dict | bytes, data: bytes = bytes(240), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(shape: list[int], first: int, last: int, dtype: str = "F32") -> dict:
    return {"X_train": {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}}


@pytest.mark.parametrize(
    "content",
    [
        tensors(tensor([12, 5], 0, 240), bytes(239)),
        tensors(tensor([12, 5], 0, 10**15)),
        tensors(tensor([12, 5 * 10**13], 0, 240)),
        tensors(tensor([12, -5], 0, 240)),
        tensors(tensor([2**63, 2**63], 0, 240)),
        tensors(tensor([12, 5], 240, 0)),
        tensors(tensor([12, 5], 8, 248)),
        tensors(tensor([12, 5], 0, 240, "OBJECT")),
        tensors(tensor([12, 5], 0, 240), length=2**62),
        tensors(tensor([12, 5], 0, 240), length=2**64 - 1),
        tensors(b"[" * 10_000),
        tensors(b"{}"),
        b"<html>sign in</html>",
        b"",
    ],
)
def test_a_lying_safetensors_file_is_refused_before_memory_is_taken(tmp_path, content):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(content)
    with little_memory(), pytest.raises(DataError) as failure:
        load_dataset(path)
    assert str(path) in str(failure.value) and "\n" not in str(failure.value)


def content_of(kind: str) -> bytes:
    if kind == "safetensors":
        return safetensors_numpy.save(arrays("float16"))
    buffer = io.BytesIO()
    if kind == "npz":
        np.savez(buffer, **arrays("float16"))
    elif kind == "compressed":
        np.savez_compressed(buffer, **arrays("float16"))
    else:
        np.save(buffer, arrays("float16")["X_train"])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed", "safetensors"])
@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_never_anything_else(kind, data, tmp_path_factory):
    content = bytearray(content_of(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), data.draw(st.integers(0, len(content)))]))]
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / ("mine.npz" if kind == "compressed" else f"mine.{kind}")
    if kind == "npy":
        path = as_folder(folder / "mine", arrays("float16")) / "X_train.npy"
    path.write_bytes(content)
    try:
        with little_memory():
            found = load_dataset(path)
    except DataError as error:
        assert str(path) in str(error) or str(path.parent) in str(error)
        assert "\n" not in str(error)
    else:
        assert len(found.X_train) == len(found.y_train) and np.isfinite(found.X_train.astype(float)).all()
        assert found.X_train.nbytes <= 100 * len(content)


def test_a_missing_file_is_the_systems_own_error(tmp_path):
    for name in ("mine.npz", "mine.safetensors"):
        with pytest.raises(FileNotFoundError):
            load_dataset(tmp_path / name)


def test_a_file_of_another_kind_says_what_is_read(tmp_path):
    (tmp_path / "mine.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=r"name a folder, an \.npz file or a \.safetensors file"):
        load_dataset(tmp_path / "mine.csv")
