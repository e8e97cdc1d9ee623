"""HyperDrive's sweeps: a parent run whose children get sampled arguments, some at once, laggards ended early."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papershell.orchestration.loopback import bandit, metric_records
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.runner import Runner
from papershell.orchestration.loopback.sampling import Values, arguments, samples
from papershell.orchestration.loopback.state import State
from papershell.orchestration.loopback.store import Document

_POLL_S = 0.1
LOG = "azureml-logs/hyperdrive.txt"


class Sweep:
    """One sweep.

    Parameters
    ----------
    wanted : HyperDrive's experiment: ``generator_config``, ``policy_config``, ``primary_metric_config``,
        ``max_total_jobs``, ``max_concurrent_jobs``, ``max_duration_minutes``, and what each run is.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        The sampling or the policy is missing here.
    """

    def __init__(self, state: State, runner: Runner, run_id: str, wanted: Document) -> None:
        self._state, self._runner, self.run_id, self._wanted = state, runner, run_id, wanted
        bandit.check(wanted["policy_config"])
        self._samples: Iterator[Values] = samples(wanted["generator_config"], random.Random())
        self._children: list[str] = []
        self._ended: set[str] = set()

    def conduct(self, stop: threading.Event) -> tuple[str, str | None]:
        """Start, watch and end the runs until all have ended; return the sweep's final state and why."""
        history.move(self._state.store, self.run_id, "Running")
        self._log("the sweep begins")
        deadline = time.monotonic() + 60 * float(self._wanted.get("max_duration_minutes") or math.inf)
        more = True
        while (open_runs := self._open()) or more:
            if stop.wait(_POLL_S):
                return self._end(open_runs, *self._runner.stopped())
            if time.monotonic() > deadline:
                return self._end(open_runs, "Completed")
            self._end_laggards([run for run in open_runs if run not in self._ended])
            more = more and self._fill(len(open_runs))
        return self._end([], "Completed")

    def _open(self) -> list[str]:
        store = self._state.store
        return [r for r in self._children if history.run(store, r)["status"] not in history.FINAL]

    def _fill(self, running: int) -> bool:
        """Start runs as long as there is room; return whether there may be more."""
        for _ in range(int(self._wanted["max_concurrent_jobs"]) - running):
            values = next(self._samples, None)
            if values is None or len(self._children) >= int(self._wanted["max_total_jobs"]):
                return False
            self._start(values)
        return True

    def _start(self, values: Values) -> None:
        store, parent = self._state.store, history.run(self._state.store, self.run_id)
        child = f"{self.run_id}_{len(self._children)}"
        definition = self._wanted["platform_config"]["Definition"]
        configuration = dict(definition["Overrides"])
        configuration["arguments"] = [*(configuration.get("arguments") or []), *arguments(values)]
        wanted = {
            "target": configuration.get("target"), "parentRunId": self.run_id,
            "properties": {"ContentSnapshotId": definition.get("SnapshotId")},
        }  # fmt: skip
        tag = {f"_aml_system_{child}": json.dumps(values)}
        submission = {
            "runId": child,
            "configuration": configuration,
            "snapshot": definition.get("SnapshotId"),
        }
        with store.transaction():
            history.new_run(store, history.experiment(store, parent["experimentId"]), child, wanted)
            store.put("submission", child, submission)
            store.update("run", self.run_id, lambda record: history.merge(record, {"tags": tag}))
            history.move(store, child, "Queued")
        self._children.append(child)
        self._log(f"{child} starts with {values}")
        self._runner.start(child)

    def _end_laggards(self, open_runs: list[str]) -> None:
        if not bandit.ends_runs(self._wanted["policy_config"]):
            return
        for run in bandit.laggards(*self._standing(), open_runs):
            self._log(f"{run} lags behind the best run and is ended")
            self._ended.add(run)
            self._runner.cancel(run)

    def _standing(self) -> tuple[Document, str, dict[str, list[float]]]:
        """Return the policy, the goal, and the values of the primary metric that each run has logged."""
        metric = self._wanted["primary_metric_config"]
        return self._wanted["policy_config"], str(metric["goal"]), {
            run: [
                float(value["data"][metric["name"]])
                for value in metric_records.values(self._state.store, run, metric["name"])
            ]
            for run in self._children
        }  # fmt: skip

    def _end(self, open_runs: list[str], state: str, message: str | None = None) -> tuple[str, str | None]:
        for run in open_runs:
            self._runner.cancel(run)
        self._log(f"the sweep ends: {state}")
        return state, message

    def _log(self, line: str) -> None:
        path: Path = self._state.blobs / history.artifact_folder(history.run(self._state.store, self.run_id))
        path = path / LOG
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"[{time.strftime('%Y-%m-%dT%H:%M:%S')}] {line}\n")


def tags(wanted: Document) -> dict[str, Any]:
    """Return what the client reads from the tags of a sweep's run when it meets it again."""
    parts = ("generator_config", "policy_config", "primary_metric_config", "platform_config")
    counts = ("max_total_jobs", "max_concurrent_jobs", "max_duration_minutes")
    return {name: json.dumps(wanted[name]) for name in parts} | {name: str(wanted[name]) for name in counts}
