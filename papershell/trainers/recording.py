"""The recorder that a trainer reports to, and the records that are kept of runs and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

MODEL_FOLDER = "model"  # the folder, among a run's files, of its model


class TrackingError(RuntimeError):
    """A run or model cannot be found or recorded; the message names the remedy."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered model: ``id`` is ``name:version``, as Azure ML writes it; ``source`` its files."""

    name: str
    version: str
    created: datetime | None = None
    source: str = ""

    @property
    def id(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class RunRecord:
    """A finished or running run, as the record knows it."""

    id: str
    name: str
    experiment: str
    status: str
    started: datetime
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Sequence[str] = ()
    failure: str = ""  # why it failed, if the record knows


def announce(files: Sequence[Path], model: ModelVersion | None) -> None:
    """Print the files that a trainer wrote, and the model that was registered, if one was."""
    for path in files:
        print(f"wrote {path}")
    if model:
        print(f"registered {model.name}, id {model.id}, version {model.version}")


class Recorder(Protocol):
    """Takes the parameters, metrics and files of one run."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record the parameters, once."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record measured values; with ``step`` they become points of a curve."""

    def log_artifact(self, path: Path) -> None:
        """Keep a file with the run."""

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion | None:
        """Keep ``files`` with the run and register them as the next version of ``name``."""
