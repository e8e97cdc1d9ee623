"""The loopback workspace: seconds from submission to a registered model, requests of a submission, 50 runs at once.

``python -m papershell.orchestration.loopback.benchmark [--runs 50]``. The client is the genuine azureml-core, the
service a process of its own, each run a process that logs back through azureml-core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from papershell.orchestration import loopback
from papershell.orchestration.azure.cluster import ensure_cluster
from papershell.orchestration.azure.job import Cluster
from papershell.orchestration.azure.run_handle import RunHandle

if TYPE_CHECKING:
    from azureml.core import Workspace

CLUSTER = Cluster("c1", "STANDARD_D2s_v5")
REPEATS = 5
SCRIPT = """
import sys
from azureml.core import Run
run = Run.get_context(allow_offline=False)
run.log("number", float(sys.argv[1]))
open("outputs/model.txt", "w").write(sys.argv[1])
run.complete()
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50, help="how many are submitted at once")
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, served_workspace(Path(folder)) as root:
        source = Path(folder) / "source"
        source.mkdir()
        (source / "train.py").write_text(SCRIPT)
        opened = _requests(root)
        workspace = loopback.connect(root)
        opened = _requests(root) - opened
        rounds = [_whole_way(workspace, root, source, number) for number in range(REPEATS + 1)]
        names = ("submit", "wait", "metrics", "files", "register", "whole way")
        print(f"one trivial run, median of {REPEATS} after one to warm up (first run of the process: "
              f"{sum(rounds[0][0]):.2f} s)")  # fmt: skip
        for name, seconds in zip(
            names, zip(*((*r, sum(r)) for r, _ in rounds[1:]), strict=True), strict=True
        ):
            print(f"  {name:10} {median(seconds):6.2f} s")
        (first, requests), (_, next_requests) = rounds[:2]
        next_s = median(seconds[0] for seconds, _ in rounds[1:])
        print(f"requests: {opened} to open the workspace, {requests} of the first submission ({first[0]:.2f} s), "
              f"{next_requests} of the next one of the same folder ({next_s:.2f} s)")  # fmt: skip
        print(f"{count} runs submitted at once: {_at_once(workspace, source, count)}")


@contextmanager
def served_workspace(folder: Path) -> Iterator[Path]:
    """Serve a workspace in a process of its own, with a home folder of its own."""
    os.environ["HOME"] = str(folder)
    root = folder / "workspace"
    loopback.start(root, arguments=("--slots", str(os.cpu_count() or 2)))
    try:
        ensure_cluster(loopback.connect(root), CLUSTER, show=lambda line: None)
        yield root
    finally:
        loopback.stop(root)


def _submit(workspace: Workspace, source: Path, number: int) -> RunHandle:
    from azureml.core import Environment, Experiment, ScriptRunConfig

    config = ScriptRunConfig(
        str(source),
        script="train.py",
        arguments=[number],
        compute_target=CLUSTER.name,
        environment=Environment("e"),
    )
    return RunHandle(Experiment(workspace, "benchmark").submit(config))


def _whole_way(workspace: Workspace, root: Path, source: Path, number: int) -> tuple[tuple[float, ...], int]:
    """Return the seconds of each step, and the requests that the submission made."""
    marks = [time.perf_counter()]
    before = _requests(root)
    handle = _submit(workspace, source, number)
    submitted = _requests(root) - before
    marks.append(time.perf_counter())
    state = handle.wait(60)
    marks.append(time.perf_counter())
    metrics = handle.metrics()
    marks.append(time.perf_counter())
    files = handle.files()
    marks.append(time.perf_counter())
    model = handle.register("benchmark", "outputs/model.txt")
    marks.append(time.perf_counter())
    assert state == "Completed" and metrics == {"number": number}, (state, metrics)
    assert "outputs/model.txt" in files and model.version == number + 1
    return tuple(later - earlier for earlier, later in pairwise(marks)), submitted


def _requests(root: Path) -> int:
    return len((root / "access.log").read_bytes().splitlines())


def _at_once(workspace: Workspace, source: Path, count: int) -> str:
    start = time.perf_counter()
    handles = [_submit(workspace, source, number) for number in range(count)]
    submitted_s = time.perf_counter() - start
    states = [handle.wait(600) for handle in handles]
    own = [handle.metrics() == {"number": number} for number, handle in enumerate(handles)]
    whole_s = time.perf_counter() - start
    return (
        f"{states.count('Completed')} Completed, {sum(own)} with their own metrics, submitted in "
        f"{submitted_s:.1f} s, all done after {whole_s:.1f} s"
    )


if __name__ == "__main__":
    main()
