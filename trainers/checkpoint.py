"""Files that are written whole or not at all, and the record of how a model was made."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from kernels.files import replacing


@contextmanager
def write_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends, complete, or never.

    `kernels.files.replacing`, with the folder made where it is missing: whoever reads ``path``, and
    whoever kills this process at any moment, finds the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        yield file


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON to ``path``, atomically."""
    with write_atomic(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def manifest(**facts: Any) -> dict[str, Any]:
    """Return a record of this run: time, code version, machine, libraries, and the ``facts`` given."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "git": _git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": _versions("papershell", "numpy", "numba", "scikit-learn", "torch", "cupy-cuda12x"),
        **facts,
    }


def _git_state(folder: Path) -> Mapping[str, object] | None:
    """Commit and dirty flag of the checkout that holds ``folder``; None outside one."""
    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(changes.stdout.strip())}


def _versions(*names: str) -> dict[str, str]:
    installed = {}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
