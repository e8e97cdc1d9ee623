"""The record of runs on this machine: an MLflow store in one SQLite file.

The store is ``.papershell/mlflow.db`` of the current folder, one per project, with the files of each run
beside it; ``MLFLOW_TRACKING_URI`` names another one. To look at it in a browser:
``mlflow ui --backend-store-uri sqlite:///.papershell/mlflow.db``.

MLflow's client is called directly. Its flavors (``mlflow.sklearn.log_model``) would cost a second and
infer requirements; a run here holds the files that the trainer wrote, as it wrote them.
"""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from papershell.kernels.files import PARTIAL, replacing_path
from papershell.trainers.locks import alone_in, life_sign, take_down_dead
from papershell.trainers.recording import MODEL_FOLDER, ModelVersion, TrackingError

STORE_FOLDER = Path(".papershell")
PROCESS_TAG = "papershell.process"
FAILURE_TAG = "papershell.failure"
ATTEMPTS = 3  # to end a run's record: an interrupt may have hit a write that still holds the store
SIGNS = "running"  # the folder, beside the SQLite file, of the life signs of the processes that record


def open_store() -> Any:
    """Return MLflow's client of the store, made first if need be; its errors are `TrackingError`.

    The first call in a process marks the runs whose process was killed, and says so on stderr.

    Raises
    ------
    TrackingError
        MLflow is not installed, or the store is damaged or cannot be written.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise TrackingError("there is no record without MLflow; pip install 'papershell[track]' adds it")
    return _connect(os.environ.get("MLFLOW_TRACKING_URI") or _default_uri())


@contextmanager
def new_run(experiment: str, name: str) -> Iterator[MlflowRecorder]:
    """Open a run; see `papershell.trainers.tracking.start_run`. An interrupted one is marked killed."""
    store = open_store()
    with life_sign(store.folder / SIGNS) if store.folder else nullcontext("") as sign:
        run = store.create_run(_experiment_id(store, experiment), run_name=name, tags={PROCESS_TAG: sign})
        try:
            yield MlflowRecorder(store, run)
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            for _ in range(ATTEMPTS):
                with suppress(TrackingError):  # why the block failed matters more
                    store.set_terminated(run.info.run_id, status)
                    break
            with suppress(TrackingError):
                store.set_tag(run.info.run_id, FAILURE_TAG, str(error) or type(error).__name__)
            raise
        store.set_terminated(run.info.run_id)


class MlflowRecorder:
    """See `papershell.trainers.recording.Recorder`."""

    def __init__(self, store: Any, run: Any):
        self.store, self.run = store, run

    def log_params(self, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        self.store.log_batch(self.run.info.run_id, params=[Param(n, str(v)) for n, v in params.items()])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        points = [Metric(name, float(value), now_ms, step or 0) for name, value in metrics.items()]
        self.store.log_batch(self.run.info.run_id, metrics=points)

    def log_artifact(self, path: Path) -> None:
        self.store.log_artifact(self.run.info.run_id, str(path))

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion:
        for path in files:
            self.store.log_artifact(self.run.info.run_id, str(path), MODEL_FOLDER)
        if not self.store.search_registered_models(f"name = '{name}'"):
            self.store.create_registered_model(name)
        source = f"{self.run.info.artifact_uri}/{MODEL_FOLDER}"
        return model_version(self.store.create_model_version(name, source, self.run.info.run_id))


def model_version(version: Any) -> ModelVersion:
    """Return MLflow's entity of a registered model as ours."""
    created = datetime.fromtimestamp(version.creation_timestamp / 1000)
    return ModelVersion(version.name, str(version.version), created, version.source)


def _experiment_id(store: Any, name: str) -> str:
    """Return the experiment's id, made if missing; in the default store its files lie beside the database."""
    if known := store.get_experiment_by_name(name):
        return known.experiment_id
    own = None if "MLFLOW_TRACKING_URI" in os.environ else (STORE_FOLDER / "runs").absolute().as_uri()
    return store.create_experiment(name, artifact_location=own)


def _default_uri() -> str:
    STORE_FOLDER.mkdir(exist_ok=True)
    return f"sqlite:///{STORE_FOLDER.absolute()}/mlflow.db"


@cache
def _connect(uri: str) -> _Store:
    # Read by MLflow when it loads: no log lines on the terminal, no usage data over the network.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    file = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    folder = file.parent if file and file.parent.is_dir() else None
    # The first process makes the tables, which two at once cannot do.
    with alone_in(folder) if folder else nullcontext():
        if folder and file and not file.exists():
            for unfinished in folder.glob(
                f"{PARTIAL}*"
            ):  # of a killed process; the lock excludes living ones
                unfinished.unlink(missing_ok=True)
            # MLflow makes its tables step by step: a record that lacks some, after a kill, is of no use to it.
            with replacing_path(file) as new:
                _make_tables(_Store(MlflowClient(f"sqlite:///{new.absolute()}"), file, folder))
        with _explained(file):
            if file:
                _check_file(file)
            store = _Store(MlflowClient(uri), file, folder)
        _make_tables(store)
    if folder:
        _close_killed(store, folder)
    return store


def _make_tables(store: _Store) -> None:
    """Ask for one of each: MLflow makes the tables that are missing."""
    store.search_experiments(max_results=1)
    store.search_registered_models(max_results=1)


def _check_file(file: Path) -> None:
    """Open the file as MLflow would, which tries for an hour before it says that it cannot."""
    connection = sqlite3.connect(file)
    try:
        connection.execute("PRAGMA schema_version")
    finally:
        connection.close()


class _Store:
    """MLflow's client, each call of which ends well or with a `TrackingError`."""

    def __init__(self, client: Any, file: Path | None, folder: Path | None):
        self._client, self._file, self.folder = client, file, folder

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            with _explained(self._file):
                return method(*arguments, **named)

        return call


@contextmanager
def _explained(file: Path | None) -> Iterator[None]:
    """Turn the store's errors into one sentence without SQL."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        cause = error if isinstance(error, (SQLAlchemyError, sqlite3.Error)) else error.__cause__
        if not isinstance(cause, (SQLAlchemyError, sqlite3.Error)):
            raise TrackingError(" ".join(str(error).split())) from error
        reason = cause.orig if isinstance(cause, DBAPIError) else cause
        place = file or "that MLFLOW_TRACKING_URI names"
        raise TrackingError(
            f"the record of runs {place} cannot be used ({str(reason).splitlines()[0]}); if it is damaged, "
            f"move it away and the next command makes a new one; the files of its runs stay"
        ) from error


def _close_killed(store: _Store, folder: Path) -> None:
    """Mark the runs whose process was killed."""
    with take_down_dead(folder / SIGNS) as signs:
        for sign in signs:
            experiments = [experiment.experiment_id for experiment in store.search_experiments()]
            for run in store.search_runs(experiments, f"tags.`{PROCESS_TAG}` = '{sign}'"):
                if run.info.status != "RUNNING":
                    continue
                store.set_terminated(run.info.run_id, "KILLED")
                print(
                    f"run {run.info.run_id[:8]} ({run.info.run_name}) was killed before it ended; "
                    f"the record says so now",
                    file=sys.stderr,
                )
