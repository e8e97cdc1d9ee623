"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".part-"
"""How the name begins of a file that is not complete yet; only a killed process leaves one behind."""

_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_OPEN_FILE = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_FULL = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your share of the disk is full; free some space",
    errno.EFBIG: "the system allows no larger file",
}


@contextmanager
def replacing(
    path: str | os.PathLike[str], *, parents: bool = False, private: bool = False
) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends, and only then.

    The bytes go to a new file in the same folder, are flushed to the disk and renamed over ``path``:
    every reader finds the old file or the new one, at whatever moment this process dies. An exception in
    the block removes the new file, and the folders made for it, and leaves the old file as it was.

    Parameters
    ----------
    path : a symbolic link stands for its target. Devices, pipes, ``/dev/stdout`` and ``-`` (standard
        output) are written directly.
    parents : make the folder if it is missing.
    private : only the owner may read the file. Otherwise it keeps the mode of the file that it
        replaces; a new file gets the mode that the umask leaves.

    Raises
    ------
    OSError
        One sentence: the folder is missing or may not be written, ``path`` is a folder or its name too
        long, the disk is full. ``errno`` is the system's.
    """
    if _is_stream(path):
        with _explaining(path, _FULL), _opened_stream(path) as file:
            yield file
        return
    with _explaining(path, _FULL), replacing_path(path, parents=parents) as temporary:
        with _explaining(path):
            handle = _new_file(temporary, Path(path), private)
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def replacing_path(path: str | os.PathLike[str], *, parents: bool = False) -> Iterator[Path]:
    """Yield a free name in the folder of ``path``; the file or folder that the block puts there replaces ``path``.

    For software that wants the name of a file instead of an open one, and for whole folders: a folder that
    was at ``path`` is removed with all that it holds. Parameters and errors are those of `replacing`, but
    a device, a pipe or ``-`` is an error too.
    """
    if _is_stream(path):
        raise OSError(f"{os.fspath(path)} is a device or a pipe; name a file")
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    with _folder(target.parent, path, parents):
        try:
            yield temporary
            with _explaining(path):
                _move(temporary, target)
        finally:
            _remove(temporary)


def write_json(path: str | os.PathLike[str], content: object, *, private: bool = False) -> None:
    """Write ``content`` as indented JSON to ``path``; parameters and errors are those of `replacing`."""
    text = json.dumps(content, indent=2) + "\n"
    with replacing(path, parents=True, private=private) as file:
        file.write(text.encode())


def _is_stream(path: str | os.PathLike[str]) -> bool:
    if os.fspath(path) == "-" or _descriptor(path) is not None:
        return True
    with _explaining(path), suppress(FileNotFoundError, NotADirectoryError):
        mode = os.stat(path).st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return the number of the open file that ``path`` names, if it names one."""
    found = _OPEN_FILE.fullmatch(os.fspath(path))
    return int(found[1]) if found else _STANDARD.get(os.fspath(path))


@contextmanager
def _opened_stream(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    sys.stdout.flush()  # so that earlier output comes first
    if os.fspath(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    number = _descriptor(path)
    with _explaining(path):
        handle = os.open(path, os.O_WRONLY) if number is None else os.dup(number)
    with io.BufferedWriter(_Stream(handle, "wb")) as file:
        yield file


class _Stream(io.FileIO):
    """A device or pipe, which cannot seek: /dev/null claims that it can and stays at 0, which breaks `zipfile`."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("a device or pipe cannot seek")

    def tell(self) -> int:
        raise io.UnsupportedOperation("a device or pipe has no position")


def _new_file(temporary: Path, path: Path, private: bool) -> int:
    """Open ``temporary`` with the mode that ``path`` will have, from the start; return its descriptor."""
    old = path.stat() if path.exists() else None
    if old and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if private:
        old = None
    mode = old.st_mode & 0o777 if old else 0o600 if private else 0o666
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    if old:
        with suppress(OSError):  # only root may give a file away
            os.chown(temporary, old.st_uid, old.st_gid)
        temporary.chmod(mode)  # with the bits that the umask took away
    return handle


@contextmanager
def _folder(folder: Path, path: str | os.PathLike[str], parents: bool) -> Iterator[None]:
    """Make ``folder`` if asked to; after an error, remove those folders again that were made for it."""
    with _explaining(path):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with _explaining(path):
            if parents:
                folder.mkdir(parents=True, exist_ok=True)
            os.stat(folder)
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):  # another process may use it by now
                place.rmdir()
        raise


def _move(temporary: Path, target: Path) -> None:
    """Rename ``temporary`` to ``target``; only an empty folder can be renamed over, so a full one steps aside."""
    if not (temporary.is_dir() and target.is_dir()):
        os.replace(temporary, target)
        return
    old = target.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    os.replace(target, old)
    try:
        os.replace(temporary, target)
    except BaseException:
        os.replace(old, target)
        raise
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # most often it was renamed; the error that led here counts for more
            path.unlink()


@contextmanager
def _explaining(path: str | os.PathLike[str], only: Collection[int] | None = None) -> Iterator[None]:
    """Raise an OSError of the block again as one sentence on ``path``; of those ``only``, if given, without a file."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (only is not None and (error.errno not in only or error.filename)):
            raise
        told = type(OSError(error.errno, ""))(f"{os.fspath(path)} cannot be written: {_reason(error, path)}")
        told.errno = error.errno
        raise told from error


def _reason(error: OSError, path: str | os.PathLike[str]) -> str:
    folder = Path(os.path.realpath(path) if os.path.islink(path) else path).parent
    reasons = _FULL | {
        errno.ENOENT: f"there is no folder {folder}; make it first",
        errno.ENOTDIR: f"{folder} is not a folder; choose another one",
        errno.EEXIST: f"{folder} is not a folder; choose another one",
        errno.EISDIR: "it is a folder; name a file in it",
        errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
        errno.EACCES: f"you may not write to the folder {folder}; choose another one",
        errno.EPERM: "the system forbids it; choose another place",
        errno.EROFS: f"the folder {folder} is on a read-only disk; choose another one",
        errno.ELOOP: "it is a symbolic link that leads back to itself; remove it",
        errno.EBADF: "it is not open",
        errno.ENXIO: "it is a socket; name a file",
    }
    return reasons.get(error.errno or 0, f"{error.strerror or error}; choose another place")
