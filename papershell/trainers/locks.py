"""Locks that end with the process that holds them, however it ends (`flock`)."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for ``folder``, which exists; leaves no file behind.

    A file system without locks (some network ones) lets every process in.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def life_sign(folder: Path) -> Iterator[str]:
    """Keep a file in ``folder`` (made if missing) while the block runs; yield the file's name, which is unique.

    If the process is killed, the file stays and `take_down_dead` finds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / secrets.token_hex(8)
    with alone_in(folder):
        sign = open(path, "xb")  # noqa: SIM115 (closed below, in another block)
        _is_free(sign)
    with sign:
        try:
            yield path.name
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def take_down_dead(folder: Path) -> Iterator[list[str]]:
    """Yield the names of the life signs in ``folder`` whose process is dead; remove them when the block is done."""
    if not folder.is_dir():
        yield []
        return
    with alone_in(folder):
        dead = []
        for path in sorted(folder.iterdir()):
            with open(path, "rb") as sign:
                if _is_free(sign):
                    dead.append(path)
        yield [path.name for path in dead]
        for path in dead:
            path.unlink(missing_ok=True)


def _is_free(sign: BinaryIO) -> bool:
    """Lock the file until it is closed, unless a process holds it."""
    try:
        fcntl.flock(sign, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
