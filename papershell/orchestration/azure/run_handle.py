"""A run that was submitted: state, log, metrics, files, cancel, wait, model."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from papershell.orchestration.errors import OrchestrationError

if TYPE_CHECKING:
    from azureml.core import Model, Run

FINAL_STATES = ("Completed", "Failed", "Canceled")
# The common runtime's names (one process, then several), and the one it had before.
_LOGS = re.compile(r"user_logs/std_log(_process_0*)?\.txt|azureml-logs/70_driver_log(_0)?\.txt")
_POLL_S = (0.1, 3.0)
_POLL_GROWTH = 1.25
_CHUNK_BYTES = 1 << 16
_SENTENCE_CHARACTERS = 600
_REQUEST_TIMEOUT_S = 60


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn whatever the SDK raises in the block into one `OrchestrationError`: could not ``what``, and why.

    The SDK has no common base class for its errors, and where a service answers with garbage it
    stumbles over it with a KeyError or TypeError of its own; so everything is caught here, and
    kept as the cause.
    """
    try:
        yield
    except OrchestrationError:
        raise
    except Exception as error:
        raise OrchestrationError(f"could not {what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return why a call of the SDK failed, in one line: the service's own words where it sent any."""
    text = _service_message(error) or getattr(error, "message", None) or str(error)
    text = " ".join(str(text).split()) or type(error).__name__
    if isinstance(error, (KeyError, TypeError, AttributeError, json.JSONDecodeError)):
        text = f"the service's answer makes no sense ({type(error).__name__}: {text})"
    return text[:_SENTENCE_CHARACTERS]


def _service_message(error: BaseException) -> str | None:
    """Return ``error.message`` of the JSON that the service sent with a refusal."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        try:
            return str(json.loads(response.text)["error"]["message"])  # type: ignore[union-attr]
        except (AttributeError, TypeError, KeyError, ValueError):
            # Some errors carry the service's answer in their text only.
            if embedded := re.search(r'"message":\s*("(?:[^"\\]|\\.)+")', str(seen)):
                return str(json.loads(embedded[1], strict=False))
        seen = getattr(seen, "inner_exception", None) or seen.__cause__
    return None


def waits(timeout_s: float) -> Iterator[None]:
    """Yield at growing intervals until the time is over, and once more."""
    deadline, pause_s = time.monotonic() + timeout_s, _POLL_S[0]
    while True:
        yield
        if time.monotonic() > deadline:
            return
        time.sleep(pause_s)
        pause_s = min(_POLL_S[1], _POLL_GROWTH * pause_s)


@dataclass(frozen=True)
class RunHandle:
    """One run of a workspace, submitted here or found again by its id.

    Attributes
    ----------
    run : the genuine `azureml.core.Run`, for everything that is not here.
    """

    run: Run

    @property
    def id(self) -> str:
        """The run's id, which `azure.find_run` takes."""
        return str(self.run.id)

    @cached_property
    def portal_url(self) -> str:
        """The address of the run's page."""
        return str(self.run.get_portal_url())

    def status(self) -> str:
        """Return the state; `FINAL_STATES` are the ends, any other word means that the run goes on."""
        with asking(f"ask for the state of run {self.id}"):
            return str(self.run.get_status())

    def wait(self, timeout_s: float = float("inf"), *, show: Callable[[str], None] | None = None) -> str:
        """Wait until the run has ended; return its final state.

        Parameters
        ----------
        timeout_s : give up after so many seconds; the run goes on.
        show : told each state once.

        Raises
        ------
        OrchestrationError
            The time is over.
        """
        shown = ""
        for _ in waits(timeout_s):
            state = self.status()
            if show and state != shown:
                show(state)
            shown = state
            if state in FINAL_STATES:
                return state
        raise OrchestrationError(f"run {self.id} is still {shown} after {timeout_s:g} seconds; it goes on")

    def follow(self, write: Callable[[bytes], object], timeout_s: float = float("inf")) -> str:
        """Pass the run's log to ``write`` as it grows, until the run has ended; return its final state.

        Only what is new is fetched, piece by piece: a log may be long, and need not be text.
        """
        offset, state = 0, ""
        for _ in waits(timeout_s):
            ended = state in FINAL_STATES
            offset += self._new_log(offset, write)
            if ended:
                return state
            state = self.status()
        raise OrchestrationError(f"run {self.id} is still {state} after {timeout_s:g} seconds; it goes on")

    def _new_log(self, offset: int, write: Callable[[bytes], object]) -> int:
        """Pass on the log from ``offset`` bytes on; return how many bytes were new."""
        import requests

        with asking(f"read the log of run {self.id}"):
            logs = self.run.get_details()["logFiles"] or {}
            name = next(filter(_LOGS.fullmatch, sorted(logs)), None)
            if name is None:
                return 0
            headers = {"Range": f"bytes={offset}-"}
            with requests.get(
                logs[name], headers=headers, stream=True, timeout=_REQUEST_TIMEOUT_S
            ) as response:
                if response.status_code == 416:  # nothing beyond the offset
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
        """Return what the service says about why the run failed, or None."""
        with asking(f"ask for the details of run {self.id}"):
            error = (self.run.get_details() or {}).get("error") or {}
        return (error.get("error") or {}).get("message")

    def metrics(self) -> dict[str, Any]:
        """Return the logged metrics: a number, or the list of numbers where one was logged repeatedly."""
        with asking(f"read the metrics of run {self.id}"):
            return dict(self.run.get_metrics())

    def files(self) -> list[str]:
        """Return the names of the run's files: outputs, logs, and what it uploaded."""
        with asking(f"list the files of run {self.id}"):
            return list(self.run.get_file_names())

    def download(self, folder: Path, *, prefix: str = "") -> list[Path]:
        """Download the run's files whose name begins with ``prefix``; each comes whole or not at all.

        Raises
        ------
        OrchestrationError
            A name leads out of ``folder``, or a file cannot be had.
        """
        names = [name for name in self.files() if name.startswith(prefix)]
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise OrchestrationError(
                    f"run {self.id} has a file named {name!r}, which leads out of {folder}"
                )
        return [self._download(name, folder / name) for name in names]

    def _download(self, name: str, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            with asking(f"download {name} of run {self.id}"):
                self.run.download_file(name, output_file_path=str(part))
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def register(self, name: str, path: str, *, tags: dict[str, str] | None = None) -> Model:
        """Register a file or folder of the run as the next version of a model; return the model."""
        with asking(f"register {path} of run {self.id} as {name}"):
            return self.run.register_model(model_name=name, model_path=path, tags=tags)

    def cancel(self) -> None:
        """Ask the run to end; `wait` tells when it has."""
        with asking(f"cancel run {self.id}"):
            self.run.cancel()
