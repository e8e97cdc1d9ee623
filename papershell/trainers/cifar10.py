"""CIFAR-10 in its official binary layout: six files of records, each a label byte and 3,072 pixel bytes.

The pixels of a record are its red, green and blue plane, 32 x 32 each, row by row. Source:
https://www.cs.toronto.edu/~kriz/cifar.html, "binary version". Nothing here is pickled.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from papershell.kernels.files import replacing

ARCHIVE = "cifar-10-binary.tar.gz"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10Error(ValueError):
    """Files of CIFAR-10 are missing or damaged; the message names them and says how to get them."""


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of records.

    Returns
    -------
    images : (N, 3072) uint8, red plane, green plane, blue plane.
    labels : (N,) uint8, 0 to 9.

    Raises
    ------
    Cifar10Error
        The file is empty, cut, or holds a label above 9.
    """
    data = np.fromfile(path, np.uint8)
    whole, rest = divmod(len(data), RECORD_BYTES)
    if rest or not whole:
        raise Cifar10Error(
            f"{path} holds {len(data):,} bytes, which is no multiple of {RECORD_BYTES} (label and pixels); "
            f"it is cut or not a file of CIFAR-10: fetch it again"
        )
    records = data.reshape(whole, RECORD_BYTES)
    labels = records[:, 0].copy()
    if len(wrong := np.flatnonzero(labels >= len(CLASS_NAMES))):
        raise Cifar10Error(
            f"{path} holds the label {labels[wrong[0]]} at byte {wrong[0] * RECORD_BYTES:,}; labels are 0 to 9: "
            f"the file is damaged or not of CIFAR-10, fetch it again"
        )
    return np.ascontiguousarray(records[:, 1:]), labels


def read_batches(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read several files of records as one; see `read_batch`."""
    images, labels = zip(*map(read_batch, paths), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def find_files(folder: Path) -> tuple[list[Path], Path] | None:
    """Return the five training files and the test file below ``folder``, or None if there are none.

    Raises
    ------
    Cifar10Error
        Some but not all are there, or there are several sets.
    """
    names = {*TRAIN_FILES, TEST_FILE}
    found: dict[Path, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("*_batch*.bin")):
        if path.name in names:
            found[path.parent].add(path.name)
    if not found:
        return None
    if len(found) > 1:
        raise Cifar10Error(
            f"{folder} holds CIFAR-10 more than once; name one of {', '.join(map(str, found))}"
        )
    ((parent, present),) = found.items()
    if missing := sorted(names - present):
        raise Cifar10Error(
            f"{parent} lacks {', '.join(missing)}; `papershell data fetch cifar10` gets all six"
        )
    return [parent / name for name in TRAIN_FILES], parent / TEST_FILE


def unpack(archive: Path) -> None:
    """Write the six files of the official archive beside it, each whole or not at all.

    Raises
    ------
    Cifar10Error
        It is no such archive.
    """
    wanted = {*TRAIN_FILES, TEST_FILE}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isreg() and name in wanted:
                    _copy(tar, member, archive.with_name(name))
                    wanted.remove(name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise Cifar10Error(f"{archive} is damaged ({error}); remove it and fetch it again") from error
    if wanted:
        raise Cifar10Error(f"{archive} lacks {', '.join(sorted(wanted))}; remove it and fetch it again")


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source, "a regular file has bytes"
    with source, replacing(target) as file:
        shutil.copyfileobj(source, file, 1 << 20)
