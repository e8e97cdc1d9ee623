"""Files below the service's folder: names that cannot leave it, and writes that are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

import werkzeug.exceptions as http

_CHUNK_BYTES = 1 << 20


def inside(root: Path, name: str) -> Path:
    """Return ``root / name`` for a relative POSIX name that stays below ``root``.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The name is empty or absolute, climbs with ``..``, holds a backslash, a drive or a
        NUL, or reaches through a symbolic link.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(sign in name for sign in "\\:\0"):
        raise http.BadRequest(f"file name {name!r} is not a plain relative path; rename the file")
    path = root.joinpath(*parts)
    if any(
        parent.is_symlink() for parent in (path, *path.parents) if parent != root and root in parent.parents
    ):
        raise http.BadRequest(f"file name {name!r} passes through a symbolic link")
    return path


def save(path: Path, stream: IO[bytes], length_bytes: int | None) -> None:
    """Write ``stream`` to ``path`` whole or not at all.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The stream ended before ``length_bytes``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK_BYTES)
            written = file.tell()
        if length_bytes is not None and written != length_bytes:
            raise http.BadRequest(f"the upload ended after {written} of {length_bytes} bytes; send it again")
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def regular_files(folder: Path) -> list[Path]:
    """Return the plain files below ``folder``, sorted; links and unfinished uploads are left out."""
    found = (Path(top) / name for top, _, names in os.walk(folder) for name in names)
    return sorted(p for p in found if p.is_file() and not p.is_symlink() and not p.name.startswith(".part-"))
