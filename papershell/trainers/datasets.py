"""Data sets as arrays: ``digits`` (embedded), ``mnist``, ``cifar10``, any folder of IDX files.

A folder is searched to any depth for four IDX files, gzip-compressed or not, under either naming style:

    train-images-idx3-ubyte.gz   train-labels-idx1-ubyte.gz   t10k-images-idx3-ubyte.gz   ...
    train-images.gz              train-labels.gz              test-images.gz              test-labels.gz

A folder without such files may hold CIFAR-10 in its official binary layout (`papershell.trainers.cifar10`) instead.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from papershell.kernels import IdxError, read_idx, write_idx
from papershell.trainers import SEED, cifar10
from papershell.trainers.download import fetch_file
from papershell.trainers.published import DOWNLOADS


class DataError(ValueError):
    """A data set is absent or its files do not fit together; the message says how to mend it."""


class MissingFilesError(DataError):
    """A folder does not exist, or lacks some of the four IDX files."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels, split into a training and a test part.

    Attributes
    ----------
    name : as the user calls it.
    X_train, X_test : (N, P) uint8, one image a row, pixels 0 to 255.
    y_train, y_test : (N,) integers, the labels as they stand in the files.
    image_shape : the shape of one image before it became a row: ``(28, 28)``, ``(32, 32, 3)`` for colours
        side by side, ``(3, 32, 32)`` for colour planes.
    classes : (K,) the sorted distinct training labels.
    """

    name: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    image_shape: tuple[int, ...]
    classes: np.ndarray

    def pictures(self) -> np.ndarray:
        """The training images as one draws them: (N, height, width) or (N, height, width, 3)."""
        images = self.X_train.reshape(-1, *self.image_shape)
        return np.moveaxis(images, 1, 3) if images.ndim == 4 and images.shape[1] == 3 else images

    @property
    def fingerprint(self) -> str:
        """CRC-32 of all pixels and labels, in hexadecimal: it tells data sets apart, whatever they are called."""
        arrays = (self.X_train, self.y_train.astype("<i8"), self.X_test, self.y_test.astype("<i8"))
        return f"{reduce(lambda crc, a: zlib.crc32(np.ascontiguousarray(a).data, crc), arrays, 0):08x}"

    @property
    def title(self) -> str:
        """The name by which models made from it are registered: letters, digits, ``_``, ``-`` and dots.

        ``digits``, ``mnist`` and ``cifar10`` stand for those sets alone, wherever they lie; other data have the
        name of their folder, with the fingerprint behind it if one of those sets has that name.
        """
        if known := "cifar10" if _is_cifar10(self) else KNOWN.get(self.fingerprint):
            return known
        name = re.sub(r"[^\w.-]+", "-", self.name, flags=re.ASCII).strip("-.") or "data"
        return f"{name}-{self.fingerprint}" if name in SOURCES else name


KNOWN = {"57736647": "digits", "3528fddb": "mnist"}  # by fingerprint


def _is_cifar10(data: Dataset) -> bool:
    """Whether the data have CIFAR-10's shape and counts: its images come in several orders and encodings."""
    if data.image_shape != cifar10.IMAGE_SHAPE:
        return False
    return [np.bincount(y).tolist() for y in (data.y_train, data.y_test)] == [[5000] * 10, [1000] * 10]


ROLES = ("train-images", "train-labels", "test-images", "test-labels")
_IDX_NAME = re.compile(r"(?P<part>train|t10k|test)-(?P<kind>images|labels)([-.]idx\d-ubyte)?(\.gz)?")


def data_folder() -> Path:
    """Return the folder of downloaded data sets: ``$PAPERSHELL_DATA``, else ``data`` in the current folder."""
    return Path(os.environ.get("PAPERSHELL_DATA", "data"))


def cache_folder() -> Path:
    """Return the per-user cache: ``$PAPERSHELL_CACHE``, else the platform's (``~/.cache/papershell``).

    Raises
    ------
    DataError
        Neither is known: the user has no home folder.
    """
    if chosen := os.environ.get("PAPERSHELL_CACHE"):
        return Path(chosen)
    import pooch

    with suppress(
        RuntimeError
    ):  # of newer versions of platformdirs; older ones return a path that begins with ~
        if (folder := Path(pooch.os_cache("papershell"))).is_absolute():
            return folder
    raise DataError("there is no home folder for the cache; name a folder in PAPERSHELL_CACHE")


def load_dataset(source: str | Path) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source : ``digits``, ``mnist``, ``cifar10``, or a folder that holds a data set (see the module's docstring).
        ``digits`` is written into `cache_folder` on first use; ``mnist`` and ``cifar10`` are looked for below
        `data_folder` and downloaded into the subfolder of that name if they are absent.

    Returns
    -------
    dataset : pixels uint8, images flattened to rows.

    Raises
    ------
    DataError
        Files are missing or do not fit together.
    kernels.IdxError, papershell.trainers.cifar10.Cifar10Error
        A file is damaged.
    papershell.trainers.download.DownloadError
        No mirror delivered.
    """
    folder = resolve(source)
    try:
        data = read_folder(folder, name=Path(source).resolve().name)
        if source == "digits" and KNOWN.get(data.fingerprint) != "digits":
            raise DataError(f"{folder} does not hold the digits any more")
    except (DataError, IdxError, cifar10.Cifar10Error) as error:
        if str(source) not in SOURCES:
            raise
        fetched = f"`papershell data fetch {source}` replaces the files"
        written = f"delete {folder}, and the next command writes it again"
        raise DataError(f"{error}; {fetched if source in DOWNLOADS else written}") from error
    return data


def resolve(source: str | Path, *, download: bool = True) -> Path:
    """Return the folder of the data set ``source``; ``digits`` is written first.

    ``download`` says whether to fetch ``mnist`` or ``cifar10`` if it is not there; without, the folder that it
    would be fetched into is returned.
    """
    return SOURCES[str(source)](download) if str(source) in SOURCES else Path(source)


def check_digests(source: str, folder: Path) -> dict[Path, bool | None]:
    """Return, for each file of the data set in ``folder``, whether it is the published one of ``source``.

    None stands for a file without a published digest.
    """
    published = DOWNLOADS[source].sha256 if source in DOWNLOADS else {}
    archives = [folder / cifar10.ARCHIVE] if (folder / cifar10.ARCHIVE).is_file() else []
    files = _find_cifar10(folder)
    paths = [*archives, *files[0], files[1]] if files else find_idx_files(folder).values()
    return {path: _matches(path, published.get(path.name)) for path in paths}


def _matches(path: Path, sha256: str | None) -> bool | None:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256 if sha256 else None


def fetch(name: str, folder: Path | None = None) -> list[Path]:
    """Download the data set ``name`` of `DOWNLOADS` into ``folder``, verified; return its files.

    ``folder`` defaults to the subfolder ``name`` of `data_folder`. Files already there with the right
    SHA-256 are kept. CIFAR-10's archive is unpacked beside itself.
    """
    if name not in DOWNLOADS:
        raise DataError(f"there is no download called {name!r}; choose one of {', '.join(DOWNLOADS)}")
    folder = folder or data_folder() / name
    download = DOWNLOADS[name]
    files = [fetch_file(file, digest, folder, download.mirrors) for file, digest in download.sha256.items()]
    if name == "cifar10":
        cifar10.unpack(files[0])
    return files


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Return the path of each of the four `ROLES` below ``folder``.

    A folder that holds all four by itself is taken; otherwise the four may be scattered, as long as
    each is there once.

    Raises
    ------
    MissingFilesError
        The folder or a role is missing.
    DataError
        A role is there more than once.
    """
    if not folder.is_dir():
        raise MissingFilesError(
            f"there is no folder {folder}; name one that holds IDX files, or digits, or mnist"
        )
    groups: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        if (named := _IDX_NAME.fullmatch(path.name)) and path.is_file():
            groups[path.parent].setdefault(f"{named['part'].replace('t10k', 'test')}-{named['kind']}", path)
    return _one_of_each(folder, groups)


def _one_of_each(folder: Path, groups: Mapping[Path, dict[str, Path]]) -> dict[str, Path]:
    complete = [parent for parent, found in groups.items() if len(found) == len(ROLES)]
    if len(complete) > 1:
        raise DataError(f"{folder} holds several data sets; name one of {', '.join(map(str, complete))}")
    sources: Iterable[dict[str, Path]] = [groups[complete[0]]] if complete else groups.values()
    found = {role: [files[role] for files in sources if role in files] for role in ROLES}
    if missing := [role for role in ROLES if not found[role]]:
        raise MissingFilesError(
            f"no {' and no '.join(missing)} below {folder}; files are called like train-images-idx3-ubyte.gz "
            f"or test-labels.gz, and `papershell data fetch mnist` downloads such a set"
        )
    if unclear := [role for role in ROLES if len(found[role]) > 1]:
        choices = ", ".join(map(str, found[unclear[0]]))
        raise DataError(f"{folder} holds {unclear[0]} more than once ({choices}); name one folder")
    return {role: paths[0] for role, paths in found.items()}


def read_folder(folder: Path, *, name: str) -> Dataset:
    """Read the data set in ``folder``; see `load_dataset` for the result and the errors."""
    if _find_cifar10(folder):
        return read_cifar10(folder, name=name)
    paths = find_idx_files(folder)
    X_train, y_train, image_shape = _read_part(paths["train-images"], paths["train-labels"])
    X_test, y_test, test_shape = _read_part(paths["test-images"], paths["test-labels"])
    if image_shape != test_shape:
        raise DataError(
            f"{paths['test-images']} holds images of shape {test_shape} but {paths['train-images']} "
            f"of shape {image_shape}; both parts must come from one data set"
        )
    classes = np.unique(y_train)
    if len(classes) < 2:
        raise DataError(f"{paths['train-labels']} holds one class only; a classifier needs two or more")
    if len(unknown := np.setdiff1d(y_test, classes)):
        raise DataError(
            f"{paths['test-labels']} holds the label {unknown[0]}, which no training image has; "
            f"remove those images or add training images of that class"
        )
    return Dataset(name, X_train, y_train, X_test, y_test, image_shape, classes)


def _find_cifar10(folder: Path) -> tuple[list[Path], Path] | None:
    """The files of CIFAR-10 in ``folder``, unless it holds IDX files."""
    try:
        find_idx_files(folder)
    except MissingFilesError:
        return cifar10.find_files(folder)
    return None


def read_cifar10(folder: Path, *, name: str) -> Dataset:
    """Read the CIFAR-10 that lies below ``folder`` in its binary layout, whatever else lies there.

    Raises
    ------
    MissingFilesError
        There is none.
    papershell.trainers.cifar10.Cifar10Error
        A file is missing or damaged.
    """
    if not (files := cifar10.find_files(folder)):
        raise MissingFilesError(
            f"no data_batch_1.bin below {folder}; `papershell data fetch cifar10` downloads CIFAR-10"
        )
    X_train, y_train = cifar10.read_batches(files[0])
    X_test, y_test = cifar10.read_batch(files[1])
    return Dataset(name, X_train, y_train, X_test, y_test, cifar10.IMAGE_SHAPE, np.unique(y_train))


def read_images(path: Path) -> np.ndarray:
    """Read a file of images: uint8, at least one.

    Returns
    -------
    images : (N, height, width) or (N, height, width, 3) from an IDX file; (N, 3, 32, 32) from a ``.bin``
        file of CIFAR-10.
    """
    if path.suffix == ".bin":
        return cifar10.read_batch(path)[0].reshape(-1, *cifar10.IMAGE_SHAPE)
    images = read_idx(path)
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[3:] not in ((), (3,)):
        raise DataError(
            f"{path} holds {images.dtype} values of shape {images.shape}; images are unsigned bytes "
            f"(IDX type 0x08) of shape (N, height, width) or (N, height, width, 3)"
        )
    if not images.size:
        raise DataError(f"{path} holds no image: its shape is {images.shape}")
    return images


def read_labels(path: Path, n_images: int) -> np.ndarray:
    """Read an IDX file (or a ``.bin`` file of CIFAR-10) of ``n_images`` labels: (N,) integers."""
    labels = cifar10.read_batch(path)[1] if path.suffix == ".bin" else read_idx(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path} holds {labels.ndim}-dimensional {labels.dtype} values; "
            f"labels are integers in one dimension"
        )
    if len(labels) != n_images:
        raise DataError(
            f"{path} holds {len(labels)} labels for {n_images} images; each image needs one label"
        )
    return labels


def _read_part(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    X = read_images(images)
    return X.reshape(len(X), -1), read_labels(labels, len(X)), X.shape[1:]


def _mnist_folder(download: bool) -> Path:
    """Where MNIST lies in or below the data folder."""
    own = data_folder() / "mnist"
    folder = own if own.is_dir() else data_folder()
    try:
        find_idx_files(folder)
    except MissingFilesError:
        if download:
            fetch("mnist", own)
        return own
    return folder


def _cifar10_folder(download: bool) -> Path:
    """Where CIFAR-10 lies in or below the data folder; a download is unpacked."""
    own = data_folder() / "cifar10"
    if not (files := cifar10.find_files(own if own.is_dir() else data_folder())):
        if download:
            fetch("cifar10", own)
        return own
    return files[1].parent


def _digits_folder(download: bool) -> Path:
    """scikit-learn's 1,797 digits as IDX files in the cache, written on first use.

    Pixels 0-16 become bytes as round(v * 255 / 16), so that scaling by 1/255 gives v / 16 to within
    one part in 510. The split is a permutation with seed 42: 1,437 to train, 360 to test.
    """
    folder = cache_folder() / "digits-v1"
    paths = {role: folder / f"{role}.gz" for role in ROLES}
    if not all(path.is_file() for path in paths.values()):
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(SEED).permutation(len(digits.target))
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[order]
        labels = digits.target.astype(np.uint8)[order]
        n_train = len(labels) * 4 // 5
        parts = (images[:n_train], labels[:n_train], images[n_train:], labels[n_train:])
        folder.mkdir(parents=True, exist_ok=True)
        for role, part in zip(ROLES, parts, strict=True):
            write_idx(paths[role], part)
    return folder


SOURCES: Mapping[str, Callable[[bool], Path]] = {
    "digits": _digits_folder,
    "mnist": _mnist_folder,
    "cifar10": _cifar10_folder,
}
