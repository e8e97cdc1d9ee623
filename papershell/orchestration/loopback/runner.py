"""Runs as processes of this machine: queued, prepared, watched, ended, collected."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import werkzeug.exceptions as http

from papershell.orchestration.loopback import run_records as records
from papershell.orchestration.loopback import workdir
from papershell.orchestration.loopback.client import PROXY_VARIABLE, certificates, proxy_address
from papershell.orchestration.loopback.commands import RunError, command_lines, free_port
from papershell.orchestration.loopback.inputs import Input, InputError, prepare
from papershell.orchestration.loopback.process_groups import RUN_VARIABLE, end_processes
from papershell.orchestration.loopback.routing import RESOURCE_GROUP, SUBSCRIPTION, WORKSPACE
from papershell.orchestration.loopback.store import Document

if TYPE_CHECKING:
    from papershell.orchestration.loopback.service import Service

_POLL_S = 0.05
# A run sees of this machine's variables those that a program needs to start and find its hardware;
# a secret, or a setting that the cluster would not have, does not get in by chance.
_INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "PAPERSHELL_CACHE",
)  # fmt: skip
_INHERITED_PREFIXES = ("LC_", "XDG_", "CUDA", "NVIDIA", "OMP_", "MKL_", "NUMBA_", "KERAS_")
_IN_JOB = Path(__file__).parent / "injob"  # see its sitecustomize.py


class Runner:
    """Carries out the submitted runs of one service, a few at once, the others in the order they came."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pool = ThreadPoolExecutor(service.options.slots, thread_name_prefix="run")
        self._stops: dict[str, threading.Event] = {}
        self._closing = False

    def recover(self) -> None:
        """End and mark as failed what was under way when the service last stopped."""
        for submission in self._service.store.all("submission"):
            run_id = submission["runId"]
            if records.run(self._service.store, run_id)["status"] not in records.FINAL:
                end_processes(run_id)
                why = "the loopback service stopped while this run was under way; submit it again"
                records.move(self._service.store, run_id, "Failed", message=why)

    def start(self, run_id: str) -> None:
        """Queue a submitted run."""
        self._stops[run_id] = threading.Event()
        self._pool.submit(self._carry_out, run_id)

    def cancel(self, run_id: str) -> None:
        """Ask a run to end; one that waits in the queue has ended at once."""
        store = self._service.store
        if records.run(store, run_id)["status"] == "Queued":
            records.move(store, run_id, "Canceled")
        else:
            records.move(store, run_id, "CancelRequested")
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
        self._pool.shutdown(wait=True)

    def _carry_out(self, run_id: str) -> None:
        """Bring one run to a final state, whatever happens on the way."""
        store = self._service.store
        try:
            state, message = self._attempt(run_id)
        except (RunError, InputError) as error:
            state, message = "Failed", str(error)
        except http.HTTPException as error:
            state, message = "Failed", str(error.description)
        except Exception as error:  # the record must end even where this program is wrong
            state, message = "Failed", f"the loopback service failed: {type(error).__name__}: {error}"
        records.move(store, run_id, state, message=message)
        del self._stops[run_id]

    def _attempt(self, run_id: str) -> tuple[str, str | None]:
        service, stop = self._service, self._stops[run_id]
        if stop.is_set():
            return self._stopped()
        records.move(service.store, run_id, "Preparing")
        submission = service.store.get("submission", run_id) or {}
        configuration = submission["configuration"]
        folder = service.root / "runs" / run_id
        snapshot = service.store.get("snapshot", submission["snapshot"]) or {"files": {}}
        workdir.unpack(snapshot["files"], service.blobs / "snapshots", folder / "code")
        data = prepare(configuration, service.store, service.blobs, folder / "inputs")
        artifacts = service.blobs / records.artifact_folder(records.run(service.store, run_id))
        commands = command_lines(configuration, data, free_port())
        workdir.note(artifacts, configuration, commands)
        logs = workdir.log_files(artifacts, len(commands))
        variables = self._variables(run_id, configuration, data)
        records.move(service.store, run_id, "Running")
        limit_s = float(configuration.get("maxRunDurationSeconds") or "inf")
        with _nodes(run_id, commands, logs, variables, folder / "code") as nodes:
            stopped = self._watch(stop, nodes, limit_s)
        records.move(service.store, run_id, "Finalizing")
        workdir.collect(folder / "code", artifacts)
        return stopped or workdir.outcome(nodes, logs)

    def _watch(
        self, stop: threading.Event, nodes: Sequence[subprocess.Popen[bytes]], limit_s: float
    ) -> tuple[str, str | None] | None:
        """Wait until all nodes have ended or one has failed; return what else ended the run."""
        deadline = time.monotonic() + limit_s
        while any(node.poll() is None for node in nodes) and not any(node.poll() for node in nodes):
            if stop.wait(_POLL_S):
                return self._stopped()
            if time.monotonic() > deadline:
                return "Canceled", f"the run was ended at its time limit of {limit_s:g} seconds"
        return None

    def _stopped(self) -> tuple[str, str | None]:
        if self._closing:
            return "Failed", "the loopback service was stopped; submit the run again"
        return "Canceled", None

    def _variables(self, run_id: str, configuration: Document, data: list[Input]) -> dict[str, str]:
        """Return the environment of a run: this process', the run's own settings, the in-job variables."""
        service = self._service
        record = records.run(service.store, run_id)
        experiment = records.experiment(service.store, record["experimentId"])
        own = {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith(_INHERITED_PREFIXES)}
        asked = (configuration.get("environment") or {}).get("environmentVariables") or {}
        asked |= configuration.get("environmentVariables") or {}
        datasets = (configuration.get("data") or {}).items()
        modes = (f"{w.get('environmentVariableName') or name}:{w.get('mechanism')}" for name, w in datasets)
        token = service.tokens.mint(run_id)
        return (
            own
            | {k: str(v) for k, v in asked.items()}
            | {item.variable: str(item.folder) for item in data}
            | certificates(service.root)
            | {
                # Under a name that shells pass on; each Python process sets the variable itself.
                "PAPERSHELL_BLOB_PROXY": f"{PROXY_VARIABLE}={proxy_address(service.url, token)}",
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}",
                "PYTHONPATH": os.pathsep.join(filter(None, (str(_IN_JOB), own.get("PYTHONPATH")))),
                "PYTHONUNBUFFERED": "1",
                "AZUREML_ARM_SUBSCRIPTION": SUBSCRIPTION,
                "AZUREML_ARM_RESOURCEGROUP": RESOURCE_GROUP,
                "AZUREML_ARM_WORKSPACE_NAME": WORKSPACE,
                "AZUREML_ARM_PROJECT_NAME": experiment["name"],
                "AZUREML_EXPERIMENT_ID": experiment["experimentId"],
                "AZUREML_WORKSPACE_ID": service.workspace_id,
                RUN_VARIABLE: run_id,
                "AZUREML_DATASET_ENVIRONMENT_VARS": ",".join(modes),  # `Run.input_datasets` reads it
                "AZUREML_RUN_TOKEN": token,
                "AZUREML_RUN_TOKEN_EXPIRY": str(int(time.time()) + 30 * 24 * 3600),
                "AZUREML_SERVICE_ENDPOINT": service.url,
                "AZUREML_DISCOVERY_SERVICE_ENDPOINT": service.discovery_url(),
            }
        )


@contextmanager
def _nodes(
    run_id: str,
    commands: Sequence[Sequence[str]],
    logs: Sequence[Path],
    variables: dict[str, str],
    folder: Path,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start one process group per command, writing to its log; on leaving end all that the run began."""
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("ab") as output:
                node = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            nodes.append(node)
        yield nodes
    finally:
        end_processes(run_id, {node.pid for node in nodes})
        for node in nodes:
            node.wait()
