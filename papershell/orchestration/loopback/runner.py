"""Runs as processes of this machine: queued, prepared, watched, ended, collected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import werkzeug.exceptions as http

from papershell.orchestration.loopback import outputs, process_hooks, supervisor, workdir
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.client import (
    PROXY_VARIABLE,
    certificates,
    datastore_folders,
    proxy_address,
)
from papershell.orchestration.loopback.command_lines import RunError, command_lines, free_port
from papershell.orchestration.loopback.inputs import Input, InputError, prepare
from papershell.orchestration.loopback.names import RESOURCE_GROUP, SNAPSHOTS, SUBSCRIPTION, WORKSPACE
from papershell.orchestration.loopback.state import State
from papershell.orchestration.loopback.store import Document
from papershell.orchestration.loopback.tokens import LIFETIME_S

Work = Callable[[threading.Event], tuple[str, str | None]]
_POLL_S = 0.05
_SWEEPS = 32  # at once; each is a thread that waits
_KEPT_S = 30 * 24 * 3600.0  # the working folder of a run; its outputs, logs and snapshot stay
# A run sees of this machine's variables those that a program needs to start and find its hardware;
# a secret, or a setting that the cluster would not have, does not get in by chance.
_INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "PAPERSHELL_CACHE",
)  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "XDG_", "CUDA", "NVIDIA", "OMP_", "MKL_", "NUMBA_", "KERAS_")
_IN_JOB = Path(__file__).parent / "injob"  # see its sitecustomize.py
# Beyond the supervisor's own grace: then a process is stuck in the kernel, and the record goes on.
_END_S = supervisor.GRACE_S + 7.0


class Runner:
    """Carries out the submitted runs of one service, a few at once, the others in the order they came."""

    def __init__(self, state: State, slots: int) -> None:
        self._state = state
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="run")
        self._sweeps = ThreadPoolExecutor(_SWEEPS, thread_name_prefix="sweep")
        self._stops: dict[str, threading.Event] = {}
        self._closing = False

    def recover(self) -> None:
        """Mark the runs as failed that were under way when the service was killed: they ended with it."""
        store = self._state.store
        for submission in store.all("submission"):
            run_id = submission["runId"]
            if history.run(store, run_id)["status"] not in history.FINAL:
                why = "the loopback service stopped while this run was under way; submit it again"
                history.move(store, run_id, "Failed", message=why)
                history.close_children(store, run_id)
        self.clean(_KEPT_S)

    def clean(self, older_than_s: float) -> int:
        """Remove the working folders of ended runs that old; return the bytes freed."""
        return workdir.remove_ended(self._state.root / "runs", self._stops.keys(), older_than_s)

    def start(self, run_id: str) -> None:
        """Queue a submitted run."""
        self._stops[run_id] = threading.Event()
        self._pool.submit(self._carry_out, run_id, lambda _: self._attempt(run_id))

    def conduct(self, run_id: str, work: Work) -> None:
        """Carry out a run that is no process but starts others: ``work`` returns its final state and why."""
        self._stops[run_id] = threading.Event()
        self._sweeps.submit(self._carry_out, run_id, work)

    def cancel(self, run_id: str) -> None:
        """Ask a run to end; one that waits in the queue has ended at once."""
        store = self._state.store
        if history.run(store, run_id)["status"] == "Queued":
            history.move(store, run_id, "Canceled")
        else:
            history.move(store, run_id, "CancelRequested")
        if stop := self._stops.get(run_id):
            stop.set()

    def active(self) -> int:
        """Return how many runs are queued or under way."""
        return len(self._stops)

    def close(self) -> None:
        """End every run and wait for it."""
        self._closing = True
        for stop in list(self._stops.values()):
            stop.set()
        self._sweeps.shutdown(wait=True)
        self._pool.shutdown(wait=True)

    def _carry_out(self, run_id: str, work: Work) -> None:
        """Bring one run to a final state, also after an error."""
        try:
            state, message = self._outcome(run_id, work)
            history.move(self._state.store, run_id, state, message=message)
            if state != "Completed":
                history.close_children(self._state.store, run_id)
        finally:
            del self._stops[run_id]

    def _outcome(self, run_id: str, work: Work) -> tuple[str, str | None]:
        try:
            return work(self._stops[run_id])
        except (RunError, InputError) as error:
            return "Failed", str(error)
        except http.HTTPException as error:
            return "Failed", str(error.description)
        except Exception as error:  # the record must end even if this program is wrong
            return "Failed", f"the loopback service failed: {type(error).__name__}: {error}"

    def _attempt(self, run_id: str) -> tuple[str, str | None]:
        store, stop = self._state.store, self._stops[run_id]
        if stop.is_set():
            return self.stopped()
        history.move(store, run_id, "Preparing")
        configuration = (store.get("submission", run_id) or {})["configuration"]
        folder = self._state.root / "runs" / run_id
        self._unpack(run_id, folder / "code")
        data = prepare(configuration, store, self._state.blobs, folder / "inputs")
        places = outputs.make_places(configuration, folder / "output-data")
        artifacts = self._state.blobs / history.artifact_folder(history.run(store, run_id))
        commands = command_lines(configuration, [*data, *places], free_port())
        workdir.note(artifacts, configuration, commands)
        logs = workdir.log_files(artifacts, len(commands))
        variables = self._variables(run_id, configuration, [*data, *places]) | outputs.variables(places)
        history.move(store, run_id, "Running")
        limit_s = float(configuration.get("maxRunDurationSeconds") or "inf")
        with _nodes(commands, logs, variables, folder / "code") as nodes:
            stopped = self._watch(stop, nodes, limit_s)
        history.move(store, run_id, "Finalizing")
        workdir.collect(folder / "code", artifacts)
        state, message = stopped or workdir.outcome(nodes, logs)
        outputs.keep(configuration, places, run_id, state == "Completed", store, self._state.blobs)
        return state, message

    def _unpack(self, run_id: str, folder: Path) -> None:
        store = self._state.store
        submission = store.get("submission", run_id) or {}
        if local := submission.get("folder"):
            workdir.take(Path(local), folder)
            return
        snapshot = store.get("snapshot", submission["snapshot"]) or {"files": {}}
        workdir.unpack(snapshot["files"], self._state.blobs / SNAPSHOTS, folder)

    def _watch(
        self, stop: threading.Event, nodes: Sequence[subprocess.Popen[bytes]], limit_s: float
    ) -> tuple[str, str | None] | None:
        """Wait until all nodes have ended or one has failed; return state and reason if a stop came first."""
        deadline = time.monotonic() + limit_s
        while any(node.poll() is None for node in nodes) and not any(node.poll() for node in nodes):
            if stop.wait(_POLL_S):
                return self.stopped()
            if time.monotonic() > deadline:
                return "Canceled", f"the run was ended at its time limit of {limit_s:g} seconds"
        return None

    def stopped(self) -> tuple[str, str | None]:
        """Return the final state of a run that was told to stop, and why."""
        if self._closing:
            return "Failed", "the loopback service was stopped; submit the run again"
        return "Canceled", None

    def _variables(self, run_id: str, configuration: Document, data: list[Input]) -> dict[str, str]:
        """Return the environment of a run: this machine's, the run's own settings, its data, the workspace."""
        own = {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith(_INHERITED_PREFIXES)}
        asked = (configuration.get("environment") or {}).get("environmentVariables") or {}
        asked |= configuration.get("environmentVariables") or {}
        python = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_IN_JOB), own.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
        }
        texts = {k: str(v) for k, v in asked.items()}
        return own | texts | _data_variables(configuration, data) | python | self._in_job(run_id)

    def _in_job(self, run_id: str) -> dict[str, str]:
        """Return the variables by which azureml-core finds its run and its workspace."""
        state = self._state
        record = history.run(state.store, run_id)
        experiment = history.experiment(state.store, record["experimentId"])
        token = state.tokens.mint(run_id)
        return certificates(state.root) | {
            # Under a name that shells pass on; each Python process sets the variable itself.
            "PAPERSHELL_BLOB_PROXY": f"{PROXY_VARIABLE}={proxy_address(state.url, token)}",
            process_hooks.VARIABLE: json.dumps(datastore_folders(state.root)),
            "AZUREML_ARM_SUBSCRIPTION": SUBSCRIPTION,
            "AZUREML_ARM_RESOURCEGROUP": RESOURCE_GROUP,
            "AZUREML_ARM_WORKSPACE_NAME": WORKSPACE,
            "AZUREML_ARM_PROJECT_NAME": experiment["name"],
            "AZUREML_EXPERIMENT_ID": experiment["experimentId"],
            "AZUREML_WORKSPACE_ID": state.workspace_id,
            "AZUREML_RUN_ID": run_id,
            "AZUREML_RUN_TOKEN": token,
            "AZUREML_RUN_TOKEN_EXPIRY": str(int(time.time() + LIFETIME_S)),
            "AZUREML_SERVICE_ENDPOINT": state.url,
            "AZUREML_DISCOVERY_SERVICE_ENDPOINT": state.discovery_url(),
            # With these MLflow logs into the same run, with azureml-mlflow or without.
            "MLFLOW_TRACKING_URI": state.tracking_url(),
            "MLFLOW_TRACKING_TOKEN": token,
            "MLFLOW_EXPERIMENT_ID": experiment["experimentId"],
            "MLFLOW_RUN_ID": run_id,
        }


def _data_variables(configuration: Document, data: Sequence[Input]) -> dict[str, str]:
    """Return the variables that say where the inputs lie, and those that `Run.input_datasets` reads."""
    datasets = (configuration.get("data") or {}).items()
    modes = (f"{w.get('environmentVariableName') or name}:{w.get('mechanism')}" for name, w in datasets)
    return {item.variable: item.value for item in data} | {
        "AZUREML_DATASET_ENVIRONMENT_VARS": ",".join(modes)
    }


@contextmanager
def _nodes(
    commands: Sequence[Sequence[str]], logs: Sequence[Path], variables: dict[str, str], folder: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start each command under a supervisor, writing to its log; on leaving end all that the run began."""
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("ab") as output:
                nodes.append(
                    subprocess.Popen(
                        [sys.executable, "-EP", supervisor.__file__, *command],
                        cwd=folder, env=variables, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )  # fmt: skip
        yield nodes
    finally:
        for node in nodes:
            assert node.stdin is not None
            node.stdin.close()
        for node in nodes:
            _wait_for(node)


def _wait_for(node: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        node.wait(_END_S)
    node.kill()
    node.wait()
