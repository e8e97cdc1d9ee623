"""Files that are written whole or not at all, training that can go on, and the record of how a model was made."""

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

import numpy as np

from papershell.kernels.files import replacing

STATE_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be continued; the message names it and says why."""


class DivergenceError(RuntimeError):
    """A loss is not finite any more; the message says where. What was saved before is good."""


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


def write_state(path: Path, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> None:
    """Write what training needs to go on to the .npz file ``path``, atomically.

    Parameters
    ----------
    arrays : by name; no objects.
    settings : what must be the same for `read_state` to hand them out; numbers, strings, None.

    Raises
    ------
    OSError
        It could not be written, for want of space say; an older ``path`` is still whole.
    """
    stored: dict[str, Any] = {**arrays, "settings": np.array(_settings_json(settings))}
    try:
        with write_atomic(path) as file:
            np.savez(file, **stored)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} could not be saved ({reason}); what was saved before is untouched") from error


def read_state(path: Path, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the arrays that `write_state` wrote under the same ``settings``.

    Raises
    ------
    CheckpointError
        The file is damaged, or was written under other settings.
    OSError
        It cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            found = json.loads(str(arrays.pop("settings")))
            found.items()
        except Exception as error:  # zipfile and NumPy raise a dozen types on damaged files
            raise CheckpointError(
                f"{path} is not a checkpoint that papershell wrote ({error}); remove it to start over"
            ) from error
    wanted = json.loads(_settings_json(settings))
    for name in (wanted | found) if found != wanted else ():
        if found.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{path} was made with {name} {found.get(name)}, not {wanted.get(name)}; "
                f"continue with the same settings, or remove it to start over"
            )
    return arrays


def _settings_json(settings: Mapping[str, Any]) -> str:
    return json.dumps({"checkpoint version": STATE_VERSION, **settings})


def manifest(**facts: Any) -> dict[str, Any]:
    """Return a record of this run: time, code version, machine, libraries, and the ``facts`` given."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "git": _git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(
            "papershell",
            "numpy",
            "numba",
            "scikit-learn",
            "torch",
            "keras",
            "tensorflow-cpu",
            "tensorflow",
            "jax",
            "cupy-cuda12x",
        ),
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


def versions(*names: str) -> dict[str, str]:
    """Return the versions of those of these distributions that are installed, by name."""
    installed = {}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
