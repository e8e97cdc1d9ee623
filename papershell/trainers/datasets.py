"""Data sets as arrays: ``digits`` (embedded), ``mnist``, ``cifar10``, and folders or files of one's own.

A folder may hold four IDX files at any depth (`papershell.trainers.formats.idx_files`), CIFAR-10 in its official binary
layout (`papershell.trainers.cifar10`), or .npy files; a file may be .npz or .safetensors
(`papershell.trainers.formats.matrices`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from papershell.kernels import IdxError, write_idx
from papershell.trainers import SEED, cifar10
from papershell.trainers.dataset import KNOWN, DataError, Dataset
from papershell.trainers.download import fetch_file
from papershell.trainers.formats.idx_files import ROLES, MissingFilesError, find_idx_files, read_idx_folder
from papershell.trainers.formats.matrices import SUFFIXES, holds_matrices, read_matrices
from papershell.trainers.published import DOWNLOADS


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
    source : ``digits``, ``mnist``, ``cifar10``, or a folder or file that holds a data set (see the module's docstring).
        ``digits`` is written into `cache_folder` on first use; ``mnist`` and ``cifar10`` are looked for below
        `data_folder` and downloaded into the subfolder of that name if they are absent.

    Returns
    -------
    dataset : samples as rows: pixels uint8, other features of the type that they have in the file. Without a test part
        its ``X_test`` has no rows.

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
        data = read_source(folder, name=_name(Path(source)))
        if source == "digits" and KNOWN.get(data.fingerprint) != "digits":
            raise DataError(f"{folder} does not hold the digits any more")
    except (DataError, IdxError, cifar10.Cifar10Error) as error:
        if str(source) not in SOURCES:
            raise
        fetched = f"`papershell data fetch {source}` replaces the files"
        written = f"delete {folder}, and the next command writes it again"
        raise DataError(f"{error}; {fetched if source in DOWNLOADS else written}") from error
    return data


def load_images(source: str | Path) -> Dataset:
    """Read a data set of images in bytes with a test part, which networks need; else as `load_dataset`."""
    data = load_dataset(source)
    if not data.are_images or not len(data.X_test):
        lack = "test part" if data.are_images else "images in bytes"
        raise DataError(f"{data.name} has no {lack}, which this trainer needs; choose other data")
    return data


def _name(source: Path) -> str:
    """The name of a folder, or of a file without its suffix."""
    place = source.resolve()
    if place.suffix in SUFFIXES and not place.is_dir():
        return place.parent.name if place.suffix == ".npy" else place.stem
    return place.name


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
    if holds_matrices(folder):
        return dict.fromkeys(sorted(folder.glob("*.npy")) if folder.is_dir() else [folder])
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


def read_source(place: Path, *, name: str) -> Dataset:
    """Read the data set in a folder or file; see `load_dataset` for the result and the errors."""
    if holds_matrices(place):
        return read_matrices(place, name=name)
    if place.is_file():
        raise DataError(f"{place} is no data set; name a folder, an .npz file or a .safetensors file")
    return read_cifar10(place, name=name) if _find_cifar10(place) else read_idx_folder(place, name=name)


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
