"""The place for a run's metrics: MLflow on this machine, the Azure ML run inside a job, none without either.

On this machine they go into the store of `papershell.trainers.mlflow_store`. Inside an Azure ML job
(``AZUREML_RUN_ID`` is set) the run itself records, through `papershell.trainers.azure_run`: every job image
has azureml-core, while MLflow's plug-in for Azure ML need not be there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from papershell.trainers.recording import ModelVersion, Recorder


@contextmanager
def start_run(experiment: str, name: str, *, record: bool = True) -> Iterator[Recorder]:
    """Open a run that ends with the block: finished, or failed if an exception leaves it.

    Parameters
    ----------
    experiment : the group of runs, as in ``sklearn-mnist``.
    name : of the run, in words, as in ``sweep digits``.
    record : if False, log nothing (use on every rank but 0).

    Yields
    ------
    recorder : the Azure ML run inside a job; else MLflow if it is installed; else a recorder that drops
        everything, after one line on stderr that says so.
    """
    if not record:
        yield _NoRecorder()
    elif "AZUREML_RUN_ID" in os.environ:
        from papershell.trainers import azure_run

        with azure_run.current_run() as recorder:
            yield recorder
    elif importlib.util.find_spec("mlflow") is None:
        print("this run is not recorded: pip install 'papershell[track]' adds MLflow", file=sys.stderr)
        yield _NoRecorder()
    else:
        from papershell.trainers import mlflow_store

        with mlflow_store.new_run(experiment, name) as stored:
            yield stored


class _NoRecorder:
    def log_params(self, params: Mapping[str, object]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def log_artifact(self, path: Path) -> None: ...

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion | None: ...
