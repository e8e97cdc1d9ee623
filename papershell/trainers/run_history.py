"""The runs in this machine's record, with all that each one reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from papershell.trainers.mlflow_store import FAILURE_TAG, open_store
from papershell.trainers.recording import RunRecord, TrackingError


def list_runs(limit: int = 20) -> list[RunRecord]:
    """Return the newest runs, newest first, without their files."""
    names = _experiments()
    found = open_store().search_runs(list(names), max_results=limit, order_by=["attributes.start_time DESC"])
    return [_record(run, names) for run in found]


def get_run(run_id: str) -> RunRecord:
    """Return one run with its files; any unambiguous beginning of its id will do.

    Raises
    ------
    TrackingError
        No run or several runs begin so.
    """
    names = _experiments()
    wanted = f"attributes.run_id LIKE '{run_id}%'"
    found = open_store().search_runs(list(names), wanted) if run_id.isalnum() or not run_id else []
    if len(found) != 1:
        problem = "no run begins" if not found else f"{len(found)} runs begin"
        raise TrackingError(f"{problem} with {run_id!r}; `papershell runs list` shows them")
    return _record(found[0], names, files=_list_files(found[0].info.run_id))


def _experiments() -> dict[str, str]:
    """The name of each experiment by its id."""
    return {experiment.experiment_id: experiment.name for experiment in open_store().search_experiments()}


def _list_files(run_id: str, folder: str | None = None) -> list[str]:
    entries = open_store().list_artifacts(run_id, folder)
    nested = [_list_files(run_id, entry.path) if entry.is_dir else [entry.path] for entry in entries]
    return [path for paths in nested for path in paths]


def _record(run: Any, names: Mapping[str, str], files: Sequence[str] = ()) -> RunRecord:
    info, data = run.info, run.data
    started = datetime.fromtimestamp(info.start_time / 1000)
    experiment = names[info.experiment_id]
    failure = data.tags.get(FAILURE_TAG, "")
    return RunRecord(
        info.run_id,
        info.run_name,
        experiment,
        info.status,
        started,
        data.params,
        data.metrics,
        files,
        failure,
    )
