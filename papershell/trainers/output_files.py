"""Files of results: written whole or not at all, in folders that are made if they are missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from papershell.kernels.files import replacing


@contextmanager
def write_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends, complete, or never.

    `papershell.kernels.files.replacing`, with the folder made where it is missing: whoever reads ``path``, and
    whoever kills this process at any moment, finds the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        yield file


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON to ``path``, atomically."""
    with write_atomic(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
