"""A run that was submitted: state, log, metrics, files, cancel, wait, model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from papershell.kernels.files import replacing_path
from papershell.orchestration.azure.sdk import asking, watch
from papershell.orchestration.errors import OrchestrationError

if TYPE_CHECKING:
    from azureml.core import Model, Run, Workspace

FINAL_STATES = ("Completed", "Failed", "Canceled")
# The common runtime's names (one process, then several), and the older runtime's name.
_LOGS = re.compile(r"user_logs/std_log(_process_0*)?\.txt|azureml-logs/70_driver_log(_0)?\.txt")
_CHUNK_BYTES = 1 << 16
_REQUEST_TIMEOUT_S = 60


@dataclass(frozen=True)
class RunHandle:
    """One run of a workspace, submitted here or found again by its id.

    Attributes
    ----------
    run : the genuine `azureml.core.Run`, for everything that this class does not offer.
    """

    run: Run

    @property
    def id(self) -> str:
        """The run's id, which `find_run` takes."""
        return str(self.run.id)

    @property
    def portal_url(self) -> str:
        """The address of the run's page."""
        return str(self.run.get_portal_url())

    def status(self) -> str:
        """Return the state; the run has ended if it is one of `FINAL_STATES`."""
        with asking(f"ask for the state of run {self.id}"):
            return str(self.run.get_status())

    def wait(
        self,
        timeout_s: float = float("inf"),
        *,
        show: Callable[[str], None] | None = None,
        write: Callable[[bytes], object] | None = None,
    ) -> str:
        """Wait until the run has ended; return its final state.

        Parameters
        ----------
        timeout_s : give up after so many seconds; the run goes on.
        show : receives each state once.
        write : receives the run's log as it grows. Only new bytes are fetched, piece by piece: a log may be
            long, and need not be text.

        Raises
        ------
        OrchestrationError
            The time is over.
        """
        offset = 0

        def ask() -> str:
            nonlocal offset
            state = self.status()
            if write:
                offset += self._new_log(offset, write)
            return state

        return watch(f"run {self.id}", ask, FINAL_STATES, timeout_s, show)

    def follow(self, write: Callable[[bytes], object], timeout_s: float = float("inf")) -> str:
        """Pass the run's log to ``write`` until the run has ended; return its final state."""
        return self.wait(timeout_s, write=write)

    def _new_log(self, offset: int, write: Callable[[bytes], object]) -> int:
        """Pass on the log from ``offset`` bytes on; return how many bytes were new."""
        import requests

        with asking(f"read the log of run {self.id}"):
            logs = self.run.get_details()["logFiles"] or {}
            name = next(filter(_LOGS.fullmatch, sorted(logs)), None)
            if name is None:
                return 0
            request = {"headers": {"Range": f"bytes={offset}-"}, "timeout": _REQUEST_TIMEOUT_S}
            with requests.get(logs[name], stream=True, **request) as response:
                if response.status_code == 416:  # the log ends at the offset
                    return 0
                response.raise_for_status()
                skip, new = (offset if response.status_code == 200 else 0), 0
                for chunk in response.iter_content(_CHUNK_BYTES):
                    fresh = chunk[skip:]
                    skip = max(0, skip - len(chunk))
                    new += len(fresh)
                    write(fresh)
                return new

    def failure(self) -> str | None:
        """Return the service's reason for the run's failure, or None."""
        with asking(f"ask for the details of run {self.id}"):
            error = (self.run.get_details() or {}).get("error") or {}
        return (error.get("error") or {}).get("message")

    def metrics(self) -> dict[str, Any]:
        """Return the logged metrics: a number, or a list of numbers if the metric was logged repeatedly."""
        with asking(f"read the metrics of run {self.id}"):
            return dict(self.run.get_metrics())

    def files(self) -> list[str]:
        """Return the names of the run's files: outputs, logs, and uploads."""
        with asking(f"list the files of run {self.id}"):
            return list(self.run.get_file_names())

    def download(self, folder: Path, *, prefix: str = "") -> list[Path]:
        """Download the run's files whose names begin with ``prefix``; each arrives whole or not at all.

        Raises
        ------
        OrchestrationError
            A name leads out of ``folder``, or the service does not deliver a file.
        """
        names = [name for name in self.files() if name.startswith(prefix)]
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise OrchestrationError(
                    f"run {self.id} has a file named {name!r}, which leads out of {folder}"
                )
        return [self._download(name, folder / name) for name in names]

    def _download(self, name: str, target: Path) -> Path:
        with replacing_path(target, parents=True) as part, asking(f"download {name} of run {self.id}"):
            self.run.download_file(name, output_file_path=str(part))
        return target

    def register(self, name: str, path: str, *, tags: dict[str, str] | None = None) -> Model:
        """Register a file or folder of the run as the next version of a model; return the model."""
        with asking(f"register {path} of run {self.id} as {name}"):
            return self.run.register_model(model_name=name, model_path=path, tags=tags)

    def cancel(self) -> None:
        """Ask the run to end; `wait` returns when it has."""
        with asking(f"cancel run {self.id}"):
            self.run.cancel()


def find_run(workspace: Workspace, run_id: str) -> RunHandle:
    """Return a run of the workspace by its id, or by a beginning that no other run shares.

    Raises
    ------
    OrchestrationError
        No run or several runs begin so.
    """
    from azureml.core import Experiment, Run

    with asking(f"find run {run_id}"):
        try:
            return RunHandle(Run.get(workspace, run_id))
        except Exception as error:
            if getattr(error, "status_code", None) != 404:
                raise
            runs = [run for experiment in Experiment.list(workspace) for run in experiment.get_runs()]
            found = [run for run in runs if run.id.startswith(run_id)]
            if len(found) == 1:
                return RunHandle(found[0])
            if not found:
                raise
    raise OrchestrationError(
        f"{len(found)} runs begin with {run_id!r}; give more of the id, as `papershell runs list` shows it"
    )
