"""The Azure ML run of the job that this process belongs to; the one file of the trainers that loads a cloud SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azureml.core import Run

from papershell.trainers.recording import MODEL_FOLDER, ModelVersion

SENT_BY_THE_JOB = ("outputs", "logs")  # these folders reach the run by themselves, and refuse a second upload


@contextmanager
def current_run() -> Iterator[AzureRecorder]:
    """Yield the recorder of this job's run; all that it took is sent when the block ends.

    Raises
    ------
    azureml.core.run.RunEnvironmentException
        The job's connection to its workspace is missing.
    """
    run = Run.get_context(allow_offline=False)
    try:
        yield AzureRecorder(run)
    finally:
        run.flush()  # the client logs from a thread of its own, which would end with the process


class AzureRecorder:
    """See `papershell.trainers.recording.Recorder`."""

    def __init__(self, run: Any):
        self.run = run

    def log_params(self, params: Mapping[str, object]) -> None:
        self.run.set_tags({name: str(value) for name, value in params.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.run.log(name, float(value), step=step)

    def log_artifact(self, path: Path) -> None:
        if path.parts[0] not in SENT_BY_THE_JOB:
            self.run.upload_file(path.name, str(path))

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion:
        for path in files:
            self.run.upload_file(f"{MODEL_FOLDER}/{path.name}", str(path))
        model = self.run.register_model(model_name=name, model_path=MODEL_FOLDER)
        return ModelVersion(model.name, str(model.version))
