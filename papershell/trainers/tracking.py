"""Where metrics go: MLflow on this machine, the Azure ML run inside a job, nowhere without either.

The local store is the SQLite file ``.papershell/mlflow.db`` of the current folder, one per project, with
the files of each run beside it; ``MLFLOW_TRACKING_URI`` names another one. To look at it in a browser:
``mlflow ui --backend-store-uri sqlite:///.papershell/mlflow.db``.

MLflow's client is called directly. Its flavors (``mlflow.sklearn.log_model``) would cost a second and
infer requirements; a run here holds the files that the trainer wrote, as it wrote them.

Inside an Azure ML job (``AZUREML_RUN_ID`` is set) the run itself records. azureml-core is loaded by name,
then and there only: every job image has it, while MLflow's plug-in for Azure ML need not be there.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

STORE_FOLDER = Path(".papershell")
MODEL_FOLDER = "model"


class TrackingError(RuntimeError):
    """A run or model cannot be found or recorded; the message says what to do."""


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
    """A finished or running run, as the store knows it."""

    id: str
    name: str
    experiment: str
    status: str
    started: datetime
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Sequence[str] = ()


class Recorder(Protocol):
    """What a trainer tells about its run."""

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record what was asked for, once."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record measured values; with ``step`` they become points of a curve."""

    def log_artifact(self, path: Path) -> None:
        """Keep a file with the run."""

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion | None:
        """Keep ``files`` with the run and register them as the next version of ``name``."""


@contextmanager
def start_run(experiment: str, name: str, *, record: bool = True) -> Iterator[Recorder]:
    """Open a run that ends with the block: finished, or failed where an exception leaves it.

    Parameters
    ----------
    experiment : the group of runs, as in ``sklearn-mnist``.
    name : what this one did, as in ``sweep digits``.
    record : False keeps nothing; so say all processes of a job but the first.

    Yields
    ------
    recorder : the Azure ML run inside a job, MLflow where it is installed, else one that keeps nothing
        and has said so in one line.
    """
    if not record:
        yield _NoRecorder()
    elif "AZUREML_RUN_ID" in os.environ:
        run = importlib.import_module("azureml.core").Run.get_context(allow_offline=False)
        try:
            yield _AzureRecorder(run)
        finally:
            run.flush()  # the client logs from a thread of its own, which would end with the process
    elif importlib.util.find_spec("mlflow") is None:
        print("nothing is recorded: pip install 'papershell[track]' adds MLflow", file=sys.stderr)
        yield _NoRecorder()
    else:
        with _mlflow_run(experiment, name) as recorder:
            yield recorder


def list_runs(limit: int = 20) -> list[RunRecord]:
    """Return the newest runs of the local store, newest first."""
    names = {e.experiment_id: e.name for e in _client().search_experiments()}
    found = _client().search_runs(list(names), max_results=limit, order_by=["attributes.start_time DESC"])
    return [_record(run, names) for run in found]


def get_run(run_id: str) -> RunRecord:
    """Return one run with its files; any unambiguous beginning of its id will do.

    Raises
    ------
    TrackingError
        No run or several runs begin so.
    """
    names = {e.experiment_id: e.name for e in _client().search_experiments()}
    found = [run for run in _client().search_runs(list(names)) if run.info.run_id.startswith(run_id)]
    if len(found) != 1:
        problem = "no run begins" if not found else f"{len(found)} runs begin"
        raise TrackingError(f"{problem} with {run_id!r}; `papershell runs list` shows them")
    return _record(found[0], names, files=_list_files(found[0].info.run_id))


def list_models() -> list[ModelVersion]:
    """Return every version of every registered model, newest first."""
    found = _client().search_model_versions(order_by=["creation_timestamp DESC"])
    return [_model_version(version) for version in found]


def register_model(name: str, files: Sequence[Path]) -> ModelVersion:
    """Register ``files`` as the next version of ``name`` in the local store, in a run of their own."""
    with _mlflow_run("models", f"register {name}") as recorder:
        return recorder.register_model(name, files)


def download_model(name: str, version: str | None, folder: Path) -> list[Path]:
    """Copy the files of a registered model into ``folder``; return their new paths.

    Parameters
    ----------
    name : the registered name.
    version : which one; None takes the newest.
    folder : where the files go, each of them whole or not at all; made if missing.

    Raises
    ------
    TrackingError
        There is no such model or version.
    """
    versions = [model for model in list_models() if model.name == name and version in (None, model.version)]
    if not versions:
        raise TrackingError(f"no model {name}:{version or '*'}; `papershell models list` shows them")
    source = max(versions, key=lambda model: int(model.version)).source
    _client()  # loads MLflow with this file's settings
    artifacts = importlib.import_module("mlflow.artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        copy = Path(artifacts.download_artifacts(artifact_uri=source, dst_path=scratch))
        files = [copy] if copy.is_file() else [path for path in sorted(copy.rglob("*")) if path.is_file()]
        return [path.rename(folder / path.name) for path in files]


class _NoRecorder:
    def log_params(self, params: Mapping[str, object]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def log_artifact(self, path: Path) -> None: ...

    def register_model(self, name: str, files: Sequence[Path]) -> None: ...


class _AzureRecorder:
    def __init__(self, run: Any):
        self.run = run

    def log_params(self, params: Mapping[str, object]) -> None:
        self.run.set_tags({name: str(value) for name, value in params.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.run.log(name, float(value), step=step)

    def log_artifact(self, path: Path) -> None:
        # What lies in outputs/ or logs/ reaches the run by itself, and refuses a second upload.
        if path.parts[0] not in ("outputs", "logs"):
            self.run.upload_file(path.name, str(path))

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion:
        for path in files:
            self.run.upload_file(f"{MODEL_FOLDER}/{path.name}", str(path))
        model = self.run.register_model(model_name=name, model_path=MODEL_FOLDER)
        return ModelVersion(model.name, str(model.version))


class _MlflowRecorder:
    def __init__(self, client: Any, run: Any):
        self.client, self.run = client, run

    def log_params(self, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(self.run.info.run_id, params=[Param(n, str(v)) for n, v in params.items()])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        points = [Metric(name, float(value), now_ms, step or 0) for name, value in metrics.items()]
        self.client.log_batch(self.run.info.run_id, metrics=points)

    def log_artifact(self, path: Path) -> None:
        self.client.log_artifact(self.run.info.run_id, str(path))

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion:
        for path in files:
            self.client.log_artifact(self.run.info.run_id, str(path), MODEL_FOLDER)
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        source = f"{self.run.info.artifact_uri}/{MODEL_FOLDER}"
        return _model_version(self.client.create_model_version(name, source, self.run.info.run_id))


@contextmanager
def _mlflow_run(experiment: str, name: str) -> Iterator[_MlflowRecorder]:
    client = _client()
    known = client.get_experiment_by_name(experiment)
    experiment_id = known.experiment_id if known else _create_experiment(client, experiment)
    run = client.create_run(experiment_id, run_name=name)
    try:
        yield _MlflowRecorder(client, run)
    except BaseException:
        client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id)


def _create_experiment(client: Any, name: str) -> str:
    """In the default store, files lie beside the database; another store decides for itself."""
    own = None if "MLFLOW_TRACKING_URI" in os.environ else (STORE_FOLDER / "runs").absolute().as_uri()
    return client.create_experiment(name, artifact_location=own)


def _client() -> Any:
    if importlib.util.find_spec("mlflow") is None:
        raise TrackingError("there is no record without MLflow; pip install 'papershell[track]' adds it")
    return _connect(os.environ.get("MLFLOW_TRACKING_URI") or _default_uri())


@cache
def _connect(uri: str) -> Any:
    # Read by MLflow when it loads: no log lines on the terminal, no usage data over the network.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _default_uri() -> str:
    STORE_FOLDER.mkdir(exist_ok=True)
    return f"sqlite:///{STORE_FOLDER.absolute()}/mlflow.db"


def _list_files(run_id: str, folder: str | None = None) -> list[str]:
    entries = _client().list_artifacts(run_id, folder)
    nested = [_list_files(run_id, entry.path) if entry.is_dir else [entry.path] for entry in entries]
    return [path for paths in nested for path in paths]


def _record(run: Any, names: Mapping[str, str], files: Sequence[str] = ()) -> RunRecord:
    info, data = run.info, run.data
    started = datetime.fromtimestamp(info.start_time / 1000)
    experiment = names[info.experiment_id]
    return RunRecord(
        info.run_id, info.run_name, experiment, info.status, started, data.params, data.metrics, files
    )


def _model_version(version: Any) -> ModelVersion:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000)
    return ModelVersion(version.name, str(version.version), created, version.source)
