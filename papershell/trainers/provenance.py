"""How a model was made: from which data, by which code, machine and libraries."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from papershell.trainers.datasets import Dataset

LIBRARIES = (
    "papershell", "numpy", "numba", "scikit-learn", "torch", "keras", "tensorflow-cpu", "tensorflow", "jax",
    "cupy-cuda12x",
)  # fmt: skip


class ModelExistsError(ValueError):
    """A model made from other data would be replaced; the message names both."""


def check_replaceable(model: Path, data: Dataset, *, overwrite: bool) -> None:
    """Raise `ModelExistsError` if ``model`` exists and was not made from ``data``, unless ``overwrite``.

    Parameters
    ----------
    model : a model file; the .json file of its name beside it names its data.
    """
    if overwrite or not model.exists():
        return
    try:
        record = json.loads(model.with_suffix(".json").read_bytes())
        if record["fingerprint"] == data.fingerprint:
            return
        origin = f"was made from {record['dataset']}"
    except (OSError, ValueError, LookupError, TypeError):
        origin = "does not say from which data it was made"
    raise ModelExistsError(
        f"{model} {origin}, and this model is to be made from {data.name}; name another folder with --out, "
        f"or replace it with --overwrite"
    )


def manifest(**facts: Any) -> dict[str, Any]:
    """Return a record of this run: time, code version, machine, libraries, and the ``facts`` given."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "git": _git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(*LIBRARIES),
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
