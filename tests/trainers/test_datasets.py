"""Data sets from real IDX files: every naming style, and one sentence for what does not fit together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from papershell.kernels import IdxError, write_idx
from papershell.trainers import datasets, published
from papershell.trainers.datasets import DataError, check_digests, find_idx_files, load_dataset

LONG = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SHORT = ("train-images", "train-labels", "test-images", "test-labels")
DOTTED = (
    "train-images.idx3-ubyte",
    "train-labels.idx1-ubyte",
    "t10k-images.idx3-ubyte",
    "t10k-labels.idx1-ubyte",
)


def parts(n_train: int = 12, n_test: int = 6, shape: tuple[int, ...] = (4, 5)) -> list[np.ndarray]:
    """Images and labels of three classes: train, train, test, test."""
    pixels = np.random.default_rng(1).integers(0, 256, (n_train + n_test, *shape), dtype=np.uint8)
    labels = (np.arange(n_train + n_test) % 3).astype(np.uint8)
    return [pixels[:n_train], labels[:n_train], pixels[n_train:], labels[n_train:]]


def write(folder: Path, arrays: list[np.ndarray], names: tuple[str, ...] = LONG, suffix: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, arrays, strict=True):
        write_idx(folder / f"{name}{suffix}", array)
    return folder


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("names", [LONG, SHORT, DOTTED])
def test_a_folder_is_read_under_every_naming_style(tmp_path, names, suffix):
    X_train, y_train, X_test, y_test = parts()
    write(tmp_path / "deep" / "below", [X_train, y_train, X_test, y_test], names, suffix)
    data = load_dataset(tmp_path)
    np.testing.assert_array_equal(data.X_train, X_train.reshape(12, 20))
    np.testing.assert_array_equal(data.X_test, X_test.reshape(6, 20))
    np.testing.assert_array_equal(data.y_train, y_train)
    np.testing.assert_array_equal(data.y_test, y_test)
    assert data.image_shape == (4, 5) and data.classes.tolist() == [0, 1, 2] and data.name == tmp_path.name


def test_the_four_files_may_be_scattered(tmp_path):
    arrays = parts()
    write(tmp_path / "a", arrays[:2], SHORT[:2])
    write(tmp_path / "b", arrays[2:], SHORT[2:])
    assert len(load_dataset(tmp_path).X_test) == 6


def test_colour_images_keep_their_shape(tmp_path):
    data = load_dataset(write(tmp_path, parts(shape=(4, 5, 3))))
    assert data.image_shape == (4, 5, 3) and data.X_train.shape == (12, 60)


def test_several_complete_sets_below_one_folder_are_refused_by_name(tmp_path):
    write(tmp_path / "first", parts())
    write(tmp_path / "second", parts())
    with pytest.raises(DataError, match=r"several data sets.*first.*second"):
        find_idx_files(tmp_path)


def test_one_role_found_twice_is_refused(tmp_path):
    arrays = parts()
    write(tmp_path / "a", arrays[:3], SHORT[:3])
    write(tmp_path / "b", arrays[2:], SHORT[2:])
    with pytest.raises(DataError, match="test-images more than once"):
        find_idx_files(tmp_path)


def changed(role: int, array: np.ndarray) -> list[np.ndarray]:
    arrays = parts()
    arrays[role] = array
    return arrays


MISFITS = {
    "fewer labels": (changed(1, parts()[1][:-1]), "11 labels for 12 images"),
    "labels in two dimensions": (changed(1, np.zeros((12, 1), np.uint8)), "2-dimensional uint8"),
    "labels that are floats": (changed(1, np.zeros(12, np.float32)), "1-dimensional float32"),
    "images that are floats": (
        changed(0, np.zeros((12, 4, 5), np.float32)),
        r"float32 values of shape \(12, 4, 5\)",
    ),
    "images in rows": (changed(0, np.zeros((12, 20), np.uint8)), r"uint8 values of shape \(12, 20\)"),
    "images of five channels": (changed(0, np.zeros((12, 4, 5, 5), np.uint8)), "height, width, 3"),
    "no image": (changed(0, np.zeros((0, 4, 5), np.uint8)), "holds no image"),
    "test images of another size": (changed(2, np.zeros((6, 5, 5), np.uint8)), r"\(5, 5\)"),
    "one class": (changed(1, np.zeros(12, np.uint8)), "one class only"),
    "a test label outside the classes": (changed(3, np.array([0, 1, 2, 9, 0, 1], np.uint8)), "label 9"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_together_is_one_sentence_naming_the_file(tmp_path, case):
    arrays, message = MISFITS[case]
    with pytest.raises(DataError, match=message) as failure:
        load_dataset(write(tmp_path, arrays))
    assert str(tmp_path) in str(failure.value) and "\n" not in str(failure.value)


def test_a_missing_folder_and_missing_files_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        load_dataset(tmp_path / "nowhere")
    write(tmp_path, parts()[:3], LONG[:3])
    with pytest.raises(DataError, match=r"no test-labels below .*papershell data fetch"):
        load_dataset(tmp_path)


def test_html_in_place_of_data_names_the_file(tmp_path):
    write(tmp_path, parts())
    (tmp_path / f"{LONG[0]}.gz").write_bytes(b"<html>sign in</html>")
    with pytest.raises(IdxError, match=LONG[0]):
        load_dataset(tmp_path)


def test_digits_are_those_of_scikit_learn_by_way_of_files(tmp_path, monkeypatch):
    from sklearn.datasets import load_digits

    monkeypatch.setenv("PAPERSHELL_CACHE", str(tmp_path))
    data = load_dataset("digits")
    assert (len(data.X_train), len(data.X_test), data.image_shape) == (1437, 360, (8, 8))
    files = sorted(path.name for path in tmp_path.rglob("*.gz"))
    assert files == [f"{name}.gz" for name in sorted(SHORT)]
    pixels, labels = np.vstack([data.X_train, data.X_test]), np.hstack([data.y_train, data.y_test])
    original = load_digits()
    ours = sorted((row.tolist(), int(label)) for row, label in zip(pixels, labels, strict=True))
    theirs = np.round(original.data / 16 * 255).astype(int).tolist()
    assert ours == sorted(zip(theirs, original.target.tolist(), strict=True))


def test_digits_are_written_once_and_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERSHELL_CACHE", str(tmp_path / "one"))
    first = load_dataset("digits")
    written = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.gz"))]
    assert load_dataset("digits").classes.tolist() == list(range(10))
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.gz"))] == written
    monkeypatch.setenv("PAPERSHELL_CACHE", str(tmp_path / "two"))
    np.testing.assert_array_equal(load_dataset("digits").X_test, first.X_test)


@pytest.mark.mnist
def test_mnist_is_found_below_the_data_folder_and_is_the_published_one(mnist_folder, monkeypatch):
    monkeypatch.setenv("PAPERSHELL_DATA", str(mnist_folder))
    data = load_dataset("mnist")
    assert data.X_train.shape == (60_000, 784) and data.X_test.shape == (10_000, 784)
    assert np.bincount(data.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert set(check_digests("mnist", datasets.resolve("mnist")).values()) == {True}


def test_a_changed_file_is_not_the_published_one(tmp_path):
    write(tmp_path, parts())
    assert set(check_digests("mnist", tmp_path).values()) == {False}
    assert set(check_digests("mine", tmp_path).values()) == {None}


def test_mnist_that_is_absent_is_downloaded_from_the_mirrors(tmp_path, monkeypatch, serve_folder):
    import hashlib

    origin = write(tmp_path / "origin", parts())
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in origin.iterdir()}
    mirror = published.Download((serve_folder(origin),), digests)
    monkeypatch.setitem(datasets.DOWNLOADS, "mnist", mirror)
    monkeypatch.setenv("PAPERSHELL_DATA", str(tmp_path / "data"))
    assert len(load_dataset("mnist").X_train) == 12
    assert sorted(path.name for path in (tmp_path / "data" / "mnist").iterdir()) == sorted(digests)


def test_an_unknown_download_lists_the_known(tmp_path):
    with pytest.raises(DataError, match="choose one of mnist, cifar10"):
        datasets.fetch("imagenet", tmp_path)


def test_a_gzip_file_with_a_wrong_checksum_is_refused(tmp_path):
    write(tmp_path, parts())
    path = tmp_path / f"{LONG[0]}.gz"
    packed = bytearray(path.read_bytes())
    packed[-6] ^= 1  # the checksum is bytes -8 to -5 of the member
    path.write_bytes(packed)
    with pytest.raises(IdxError):
        load_dataset(tmp_path)


@pytest.mark.parametrize("damage", ["html", "truncated", "of another set"])
def test_damaged_digits_are_one_sentence_with_the_way_out(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("PAPERSHELL_CACHE", str(tmp_path))
    load_dataset("digits")
    (images,) = tmp_path.rglob("train-images.gz")
    whole = images.read_bytes()
    if damage == "of another set":
        write_idx(images, np.zeros((1437, 8, 8), np.uint8))
    else:
        images.write_bytes(b"<html>" if damage == "html" else whole[:-100])
    with pytest.raises(DataError, match=f"delete {images.parent}, and the next command") as failure:
        load_dataset("digits")
    assert "\n" not in str(failure.value)
    for path in images.parent.iterdir():
        path.unlink()
    load_dataset("digits")
    assert images.read_bytes() == whole


def test_a_damaged_download_says_how_to_replace_it(tmp_path, monkeypatch):
    write(tmp_path / "mnist", parts())
    (tmp_path / "mnist" / f"{LONG[0]}.gz").write_bytes(b"<html>sign in</html>")
    monkeypatch.setenv("PAPERSHELL_DATA", str(tmp_path))
    with pytest.raises(DataError, match="`papershell data fetch mnist` replaces the files"):
        load_dataset("mnist")


def test_data_sets_are_told_apart_by_their_content(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERSHELL_CACHE", str(tmp_path / "cache"))
    digits = load_dataset("digits")
    assert digits.title == "digits" and load_dataset(datasets.resolve("digits")).title == "digits"
    own, arrays = load_dataset(write(tmp_path / "my images!", parts())), parts()
    assert own.title == "my-images" and own.fingerprint == load_dataset(tmp_path / "my images!").fingerprint
    arrays[3] = arrays[3][::-1].copy()
    other = load_dataset(write(tmp_path / "mnist", arrays))
    assert other.fingerprint != own.fingerprint and other.title == f"mnist-{other.fingerprint}"


@pytest.mark.mnist
def test_mnist_is_mnist_whatever_its_folder_is_called(mnist_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERSHELL_DATA", str(mnist_folder))
    (tmp_path / "elsewhere").symlink_to(datasets.resolve("mnist").resolve())
    assert load_dataset(tmp_path / "elsewhere").title == "mnist"


def test_a_user_without_a_home_folder_is_told_what_to_set(tmp_path):
    script = """
import os
import pooch
from papershell.trainers.datasets import DataError, cache_folder
if not os.geteuid():
    os.setuid(54321)  # of whom the system knows no home folder
try:
    print(cache_folder())
except DataError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert "PAPERSHELL_CACHE" in done.stdout or Path(done.stdout.strip()).is_absolute(), done.stderr
    if not os.geteuid():
        assert done.stdout == "there is no home folder for the cache; name a folder in PAPERSHELL_CACHE\n"
    assert list(tmp_path.iterdir()) == []
