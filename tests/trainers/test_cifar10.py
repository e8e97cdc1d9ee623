"""CIFAR-10's files: what is in them, what is wrong with them, where they come from."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papershell.trainers import cifar10, datasets, published
from papershell.trainers.cifar10 import Cifar10Error, find_files, read_batch, unpack
from papershell.trainers.datasets import DataError, load_dataset
from papershell.trainers.formats.idx_files import read_images, read_labels


def test_records_are_a_label_and_three_planes(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    planes = [bytes([value]) * 1024 for value in (10, 20, 30)]
    path.write_bytes(b"\x07" + b"".join(planes) + b"\x00" + bytes(range(256)) * 12)
    images, labels = read_batch(path)
    assert labels.tolist() == [7, 0]
    assert [set(plane) for plane in images[0].reshape(3, -1).tolist()] == [{10}, {20}, {30}]
    assert images[1, :257].tolist() == [*range(256), 0]


def test_a_folder_of_them_is_a_data_set(cifar10_folder):
    data = load_dataset(cifar10_folder.parent)
    assert data.X_train.shape == (200, 3072) and data.X_test.shape == (40, 3072)
    assert data.image_shape == (3, 32, 32) and data.classes.tolist() == list(range(10))
    images = read_images(cifar10_folder / "test_batch.bin")
    np.testing.assert_array_equal(images.reshape(40, -1), data.X_test)
    np.testing.assert_array_equal(read_labels(cifar10_folder / "test_batch.bin", 40), data.y_test)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds 0 bytes"),
        (bytes(3073 + 100), "3,173 bytes, which is no multiple of 3073"),
        (bytes(3073) + b"\x0a" + bytes(3072), "label 10 at byte 3,073; labels are 0 to 9"),
        (b"<html>sign in</html>", "not a file of CIFAR-10"),
    ],
)
def test_a_damaged_file_is_one_sentence(cifar10_folder, content, message):
    path = cifar10_folder / "data_batch_3.bin"
    path.write_bytes(content)
    with pytest.raises(Cifar10Error, match=message) as failure:
        load_dataset(cifar10_folder)
    assert str(path) in str(failure.value) and "\n" not in str(failure.value)


def test_a_missing_file_and_a_second_set_are_named(cifar10_folder):
    (cifar10_folder / "data_batch_4.bin").unlink()
    with pytest.raises(Cifar10Error, match=r"lacks data_batch_4\.bin; `papershell data fetch cifar10`"):
        load_dataset(cifar10_folder)
    (other := cifar10_folder.parent / "other").mkdir()
    (other / "test_batch.bin").write_bytes(b"")
    with pytest.raises(Cifar10Error, match="more than once"):
        load_dataset(cifar10_folder.parent)


def test_no_file_at_all_says_what_to_do(tmp_path):
    assert find_files(tmp_path) is None
    with pytest.raises(DataError, match="papershell data fetch cifar10"):
        datasets.read_cifar10(tmp_path, name="mine")


def pack(folder: Path, archive: Path, leave_out: str = "") -> Path:
    """The official archive's layout, and one member that tries to leave its folder."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            if path.name != leave_out:
                tar.add(path, f"cifar-10-batches-bin/{path.name}")
        stray = tarfile.TarInfo("../../stray.bin")
        stray.size = 3
        tar.addfile(stray, io.BytesIO(b"abc"))
    return archive


def test_cifar10_that_is_absent_is_downloaded_verified_and_unpacked(
    cifar10_folder, tmp_path, monkeypatch, serve_folder
):
    wanted = load_dataset(cifar10_folder)
    (origin := tmp_path / "origin").mkdir()
    archive = pack(cifar10_folder, origin / cifar10.ARCHIVE)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    mirror = published.Download((serve_folder(origin),), {cifar10.ARCHIVE: digest})
    monkeypatch.setitem(datasets.DOWNLOADS, "cifar10", mirror)
    monkeypatch.setenv("PAPERSHELL_DATA", str(tmp_path / "data"))
    data = load_dataset("cifar10")
    np.testing.assert_array_equal(data.X_train, wanted.X_train)
    np.testing.assert_array_equal(data.y_test, wanted.y_test)
    assert not list(tmp_path.rglob("stray.bin"))
    archive.unlink()  # what is there is not asked for again
    assert datasets.resolve("cifar10") == tmp_path / "data" / "cifar10"
    verdicts = datasets.check_digests("cifar10", datasets.resolve("cifar10"))
    assert [str(path.name) for path, verdict in verdicts.items() if verdict] == [cifar10.ARCHIVE]


def test_an_archive_that_lacks_a_file_says_which(cifar10_folder, tmp_path):
    archive = pack(cifar10_folder, tmp_path / cifar10.ARCHIVE, leave_out="test_batch.bin")
    with pytest.raises(Cifar10Error, match=r"lacks test_batch\.bin"):
        unpack(archive)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**9), value=st.integers(0, 255), length=st.integers(0, 10**9))
def test_mutated_bytes_are_read_or_refused(tmp_path, at, value, length):
    content = bytearray(b"\x03" + bytes(3072)) * 2
    content[at % len(content)] = value
    path = tmp_path / "test_batch.bin"
    path.write_bytes(content[: length % (len(content) + 1)])
    try:
        images, labels = read_batch(path)
    except Cifar10Error:
        return
    assert images.shape == (len(labels), 3072) and labels.max() <= 9


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**9), value=st.integers(0, 255), length=st.integers(0, 10**9))
def test_a_mutated_archive_is_unpacked_or_refused(tmp_path, at, value, length):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name in (*cifar10.TRAIN_FILES, cifar10.TEST_FILE):
            member = tarfile.TarInfo(name)
            member.size = 9
            tar.addfile(member, io.BytesIO(bytes(9)))
    for packed_first in (True, False):  # damage below the compression, and above it
        content = bytearray(gzip.compress(raw.getvalue()) if packed_first else raw.getvalue())
        content[at % len(content)] = value
        content = content[: length % (len(content) + 1)]
        archive = tmp_path / cifar10.ARCHIVE
        archive.write_bytes(content if packed_first else gzip.compress(content))
        try:
            unpack(archive)
        except Cifar10Error as error:
            assert str(archive) in str(error)


def test_the_command_shows_and_verifies_it(cifar10_folder, project, capsys):
    from papershell.orchestration.cli import main

    for words in (["data", "show", str(cifar10_folder)], ["data", "verify", str(cifar10_folder)]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert not end.value.code
    printed = capsys.readouterr().out
    assert "images 3 x 32 x 32, bytes" in printed and "200 + 40 images, 10 classes" in printed
    assert printed.count("no published digest") == 6
    assert Path("samples.png").read_bytes().startswith(b"\x89PNG")
