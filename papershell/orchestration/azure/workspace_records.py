"""A workspace's runs and models, in the form that this machine's own have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papershell.orchestration.azure.run_handle import find_run
from papershell.orchestration.azure.sdk import asking
from papershell.trainers.recording import MODEL_FOLDER, ModelVersion, RunRecord
from papershell.trainers.registry import receive

if TYPE_CHECKING:
    from azureml.core import Run, Workspace

_NOT_PARAMETERS = ("job", "trainer")


class WorkspaceRecords:
    """Runs and models of a workspace, by the functions of `papershell.trainers.run_history` and `.registry`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def list_runs(self, limit: int = 20) -> list[RunRecord]:
        """Return the newest runs of all experiments, newest first, without their files."""
        from azureml.core import Experiment

        with asking("list the runs"):
            experiments = Experiment.list(self._workspace)
            found = [run for e in experiments for _, run in zip(range(limit), e.get_runs(), strict=False)]
            found.sort(key=_created, reverse=True)
            return [_record(run) for run in found[:limit]]

    def get_run(self, run_id: str) -> RunRecord:
        """Return one run with its files; any unambiguous beginning of its id suffices."""
        handle = find_run(self._workspace, run_id)
        with asking(f"read run {handle.id}"):
            return _record(handle.run, files=handle.files(), failure=handle.failure() or "")

    def list_models(self) -> list[ModelVersion]:
        """Return every version of every registered model, newest first."""
        from azureml.core import Model

        with asking("list the models"):
            return [_model(model) for model in Model.list(self._workspace)]

    def register_model(self, name: str, files: Sequence[Path]) -> ModelVersion:
        """Register local files as the next version of ``name``, in a run of their own."""
        from azureml.core import Experiment

        with asking(f"register model {name}"):
            run = Experiment(self._workspace, "models").start_logging(snapshot_directory=None, outputs=False)
            for path in files:
                run.upload_file(f"{MODEL_FOLDER}/{path.name}", str(path))
            model = run.register_model(model_name=name, model_path=MODEL_FOLDER)
            run.complete()
        return _model(model)

    def download_model(self, name: str, version: str | None, folder: Path) -> list[Path]:
        """Copy the files of a registered model into ``folder``, each whole or not at all."""
        from azureml.core import Model

        with asking(f"download model {name}:{version or '*'}"):
            model = Model(self._workspace, name, version=int(version) if version else None)
            return receive(folder, model.download)


def _created(run: Run) -> str:
    """Return the time when a run was made; the SDK keeps it in a private field only."""
    return str(run._run_dto["created_utc"])


def _record(run: Run, files: Sequence[str] = (), failure: str = "") -> RunRecord:
    tags = run.get_tags()
    newest = {name: v[-1] if isinstance(v, list) and v else v for name, v in run.get_metrics().items()}
    return RunRecord(
        id=run.id,
        name=tags.get("trainer") or run.display_name or "",
        experiment=run.experiment.name,
        status=run.get_status(),
        started=datetime.fromisoformat(_created(run)).astimezone(),
        params={name: str(value) for name, value in tags.items() if not _is_note(name)},
        metrics={name: float(value) for name, value in newest.items() if isinstance(value, (int, float))},
        files=files,
        failure=failure,
    )


def _is_note(tag: str) -> bool:
    """Return whether a tag is a note of this package or of MLflow, not a parameter."""
    return tag in _NOT_PARAMETERS or tag.startswith("mlflow.")


def _model(model: Any) -> ModelVersion:
    return ModelVersion(model.name, str(model.version), model.created_time, model.url)
