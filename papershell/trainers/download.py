"""Downloads that survive dead mirrors, broken connections and lying servers.

pooch does the work: cache check, retries, SHA-256, the move to the final name. Its own HTTP downloader
starts from byte 0 each time, so this file adds a downloader that resumes, and a lock against a second process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from papershell.trainers.locks import alone_in
from papershell.trainers.progress import progress

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30
CHUNK_BYTES = 1 << 16
SCRATCH = ".fetching-"  # how the folder begins in which pooch writes


class DownloadError(OSError):
    """No mirror delivered a file, or it cannot be written; the message gives the reason and the remedy."""


def fetch_file(name: str, sha256: str, folder: Path, mirrors: Iterable[str]) -> Path:
    """Return ``folder/name`` with the digest ``sha256``, downloaded first if it is absent or differs.

    Mirrors are tried in turn, each twice. What arrived before a connection broke lies in
    ``folder/name.part`` and is continued (HTTP Range), by the same mirror or the next one; the final
    name never holds anything but the verified file.

    Parameters
    ----------
    name : file name, on the mirrors and in ``folder``.
    sha256 : hexadecimal digest that the file must have.
    folder : of the file; made if missing.
    mirrors : addresses to which ``name`` is appended, in the order to try.

    Raises
    ------
    DownloadError
        Every mirror failed, or the folder cannot be written.
    """
    target, part, made = folder / name, folder / f"{name}.part", False
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):  # two processes would write into one part file
            _remove_dead(folder)
            if not _has_digest(target, sha256):
                with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
                    os.replace(_fetch(name, sha256, Path(scratch), part, mirrors), target)
            elif part.exists():
                part.unlink()
    except OSError as error:
        if made:
            with suppress(OSError):  # something may lie there by now
                folder.rmdir()
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"{name} cannot be written into {folder} ({error.strerror or error}); free some space or choose another "
            f"folder, then fetch again: the download goes on from where it stopped"
        ) from error
    return target


def _fetch(name: str, sha256: str, scratch: Path, part: Path, mirrors: Iterable[str]) -> Path:
    """Download the file into ``scratch``, from the first mirror that delivers it."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for mirror in mirrors:
        shelf = pooch.create(scratch, mirror, registry={name: f"sha256:{sha256}"}, retry_if_failed=1)
        try:
            return Path(shelf.fetch(name, downloader=_Resuming(part)))
        except (ValueError, requests.RequestException) as error:
            failures.append(f"{mirror}{name} ({_reason(error)})")
    raise DownloadError(
        f"{name} could not be downloaded; tried {', '.join(failures)}; "
        f"put the file into {part.parent} by hand, or try again later"
    )


def _has_digest(path: Path, sha256: str) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _remove_dead(folder: Path) -> None:
    """Remove the folders of killed downloads; the lock excludes living ones."""
    for scratch in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _reason(error: Exception) -> str:
    """Return in a few words why one mirror failed."""
    import requests

    match error:
        case requests.HTTPError(response=requests.Response() as response):
            return f"HTTP {response.status_code}"
        case requests.Timeout():
            return "no answer in time"
        case requests.exceptions.ChunkedEncodingError():
            return "the connection broke"
        case requests.ConnectionError():
            return "no connection"
        case requests.RequestException():
            return type(error).__name__
        case _:
            return "not the expected file: its SHA-256 differs"


class _Resuming:
    """A pooch downloader that collects bytes in a part file and continues where an earlier try stopped."""

    def __init__(self, part: Path):
        self.part = part

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        import requests

        have_bytes = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have_bytes}-"} if have_bytes else {})
        timeout_s = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self.part.unlink()  # it is as long as the file: the retry starts at byte 0
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            self._receive(response, have_bytes if resumed else 0)
        os.replace(self.part, output_file)  # pooch checks the digest; a wrong file never gets resumed

    def _receive(self, response: Any, done_bytes: int) -> None:
        length = response.headers.get("Content-Length")
        total_bytes = done_bytes + int(length) if length else None
        name = self.part.name.removesuffix(".part")
        with open(self.part, "ab" if done_bytes else "wb") as file, progress(name, total_bytes) as update:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                done_bytes += len(chunk)
                update(done_bytes, f"{done_bytes / 1e6:.1f} MB")
