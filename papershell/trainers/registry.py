"""The registered models of this machine's record: every version of every name, with its files."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from papershell.trainers.mlflow_store import model_version, new_run, open_store
from papershell.trainers.recording import ModelVersion, TrackingError


def list_models() -> list[ModelVersion]:
    """Return every version of every registered model, newest first."""
    found = open_store().search_model_versions(order_by=["creation_timestamp DESC"])
    return [model_version(version) for version in found]


def register_model(name: str, files: Sequence[Path]) -> ModelVersion:
    """Register ``files`` as the next version of ``name``, in a run of their own."""
    with new_run("models", f"register {name}") as recorder:
        return recorder.register_model(name, files)


def download_model(name: str, version: str | None, folder: Path) -> list[Path]:
    """Copy the files of a registered model into ``folder``; return their new paths.

    Parameters
    ----------
    name : the registered name.
    version : which one; None takes the newest.
    folder : receives the files, each whole or not at all; made if missing.

    Raises
    ------
    TrackingError
        There is no such model or version.
    """
    versions = [model for model in list_models() if model.name == name and version in (None, model.version)]
    if not versions:
        raise TrackingError(f"no model {name}:{version or '*'}; `papershell models list` shows them")
    source = max(versions, key=lambda model: int(model.version)).source
    artifacts = importlib.import_module("mlflow.artifacts")
    return receive(
        folder, lambda scratch: artifacts.download_artifacts(artifact_uri=source, dst_path=scratch)
    )


def receive(folder: Path, download: Callable[[str], object]) -> list[Path]:
    """Move all files that ``download(scratch)`` puts below the folder ``scratch`` into ``folder``; return their paths.

    Each file appears whole or not at all. ``folder`` is made if missing, and removed again if the download fails.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            download(scratch)
            found = [path for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
            return [path.rename(folder / path.name) for path in found]
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise
