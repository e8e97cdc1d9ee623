"""Files below the service's folder: names that cannot leave it, and writes that are whole."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import werkzeug.exceptions as http
from werkzeug.datastructures import Headers

from papershell.kernels.files import PARTIAL, replacing
from papershell.orchestration.loopback.limits import NAME_CHARACTERS, NAME_LEVELS, NAME_PART_BYTES
from papershell.orchestration.loopback.names import CONTAINERS

_CHUNK_BYTES = 1 << 20
_DIGESTS = {"Content-MD5": "md5", "Content-SHA256": "sha256"}
# Signs that some file system reads in its own way, or that a listing in XML cannot hold.
_UNWRITABLE = re.compile("[\\\\:\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def inside(root: Path, name: str) -> Path:
    """Return ``root / name`` for a relative POSIX name that stays below ``root``.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The name is empty, absolute or beyond the bounds, climbs with ``..``, holds a backslash, a
        colon or a control character, or reaches through a symbolic link.
    """
    if wrong := _wrong_with(name):
        raise http.BadRequest(f"file name {name[:80]!r} {wrong}")
    path = root
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            raise http.BadRequest(f"file name {name[:80]!r} passes through a symbolic link")
    return path


def _wrong_with(name: str) -> str | None:
    parts = name.split("/")
    if len(name) > NAME_CHARACTERS or len(parts) > NAME_LEVELS:
        return f"is longer than {NAME_CHARACTERS} characters or {NAME_LEVELS} folders; shorten it"
    plain = all(part not in ("", ".", "..") for part in parts) and not parts[-1].startswith(PARTIAL)
    if not plain or _UNWRITABLE.search(name):
        return "is not a plain relative path; rename the file"
    if max(len(part.encode()) for part in parts) > NAME_PART_BYTES:
        return f"has a part of over {NAME_PART_BYTES} bytes; shorten it"
    return None


def container_folder(blobs: Path, container: str) -> Path:
    """Return the folder of a blob container.

    Raises
    ------
    werkzeug.exceptions.NotFound
        There is no such container.
    """
    if container not in CONTAINERS:
        raise http.NotFound(f"there is no container {container!r}; there are {', '.join(CONTAINERS)}")
    return blobs / container


def save(
    path: Path,
    content: Iterable[bytes],
    length_bytes: int | None = None,
    announced: Headers | None = None,
) -> dict[str, str]:
    """Write ``content`` to ``path`` whole or not at all.

    Parameters
    ----------
    announced : the headers that came with the content; digests among them (``Content-MD5``,
        ``Content-SHA256``, base64) must be its own.

    Returns
    -------
    dict
        The digests of the content, by the names of the headers.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The content is not ``length_bytes`` long, or has another digest than announced.
    werkzeug.exceptions.Conflict
        A folder has this name, or a file has the name of a folder above it.
    """
    try:
        with replacing(path, parents=True) as file:
            digests = _write(content, file)
            if length_bytes is not None and file.tell() != length_bytes:
                raise http.BadRequest(
                    f"the upload ended after {file.tell()} of {length_bytes} bytes; send it again"
                )
            for header, digest in digests.items():
                if (announced or Headers()).get(header, digest) != digest:
                    raise http.BadRequest(
                        f"{path.name} arrived with another {header} than it left with; send it again"
                    )
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise http.Conflict(
            f"{path.name} cannot be both a file and a folder here; choose another name"
        ) from error
    return digests


def _write(content: Iterable[bytes], file: IO[bytes]) -> dict[str, str]:
    """Write the content; return its digests."""
    hashes = {header: hashlib.new(algorithm) for header, algorithm in _DIGESTS.items()}
    for chunk in content:
        file.write(chunk)
        for digest in hashes.values():
            digest.update(chunk)
    return {header: base64.b64encode(digest.digest()).decode() for header, digest in hashes.items()}


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a stream in pieces that fit into memory."""
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def regular_files(folder: Path) -> list[Path]:
    """Return the plain files below ``folder``, sorted; links and unfinished uploads are left out."""
    found = (Path(top) / name for top, _, names in os.walk(folder) for name in names)
    return sorted(p for p in found if p.is_file() and not p.is_symlink() and not p.name.startswith(PARTIAL))


def remove_unfinished(folder: Path) -> None:
    """Remove the files that were being written below ``folder`` when the service was killed."""
    for top, _, names in os.walk(folder):
        for name in names:
            if name.startswith(PARTIAL):
                (Path(top) / name).unlink(missing_ok=True)
