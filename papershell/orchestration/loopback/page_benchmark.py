"""The page of the loopback workspace while runs of four trainers arrive: milliseconds until a page has come.

``python -m papershell.orchestration.loopback.page_benchmark [--runs 200] [--recorded 0]``. The trainers are
papershell's three and a script that logs with MLflow, on small data; each run is a process that trains. The
pages are asked for while runs are under way and when they have ended: the list, the newest run, and a comparison of
the four newest.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import requests

from papershell.orchestration import loopback
from papershell.orchestration.azure.job import TrainJob, build_job
from papershell.orchestration.azure.run_handle import RunHandle
from papershell.orchestration.azure.submission import submit
from papershell.orchestration.loopback.benchmark import CLUSTER, served_workspace
from papershell.orchestration.loopback.names import SCOPE

LIMIT_MS = 200.0
SCRIPT = """
import mlflow
import numpy as np
X = np.random.default_rng(0).normal(size=(500, 8))
y = X @ np.arange(8.0)
w = np.zeros(8)
for step in range(200):
    residuals = X @ w - y
    mlflow.log_metrics({"loss": float(residuals @ residuals) / 500, "norm": float(np.linalg.norm(w))}, step=step)
    w -= X.T @ residuals / 2500
mlflow.log_params({"steps": 200, "samples": 500})
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=int, default=200, help="in all, a quarter of each trainer (default: 200)"
    )
    parser.add_argument(
        "--recorded", type=int, default=0, help="so many runs of 400 values lie there before (default: 0)"
    )
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served_workspace(Path(folder)) as root:
        jobs = _jobs(Path(folder))
        _record(root, flags.recorded)
        print(f"{'runs':>5} {'Completed':>9}   median and slowest answer, ms")
        slowest = 0.0
        for number in range(4, flags.runs + 1, 4):
            handles = [submit(job, loopback.connect(root), show=lambda line: None) for job in jobs]
            busy, states = _ask(root, handles), [handle.wait(1800) for handle in handles]
            answers = {page: busy[page] + times for page, times in _ask(root, handles).items()}
            slowest = max(slowest, *(max(times) for times in answers.values()))
            shown = "   ".join(
                f"{page} {median(times):5.1f} {max(times):5.1f}" for page, times in answers.items()
            )
            print(f"{flags.recorded + number:5} {states.count('Completed'):>7}/4   {shown}", flush=True)
        verdict = "held" if slowest < LIMIT_MS else "broken"
        print(f"slowest answer: {slowest:.1f} ms; the bound is {LIMIT_MS:g} ms: {verdict}")


def _jobs(folder: Path) -> list[TrainJob]:
    """Return a job of each trainer, on data that takes seconds."""
    script = folder / "own" / "descend.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    jobs = [
        build_job("logreg", data="digits"),
        build_job("keras-mnist", ["--epochs", "3"], data="digits"),
        build_job("torch-cifar10", ["--epochs", "2", "--print-every", "10"], data=str(_cifar10(folder))),
        build_job(str(script)),
    ]
    return [replace(job, cluster=CLUSTER, environment=jobs[0].environment) for job in jobs]


def _cifar10(folder: Path) -> Path:
    """Write random images in CIFAR-10's layout: 200 to train, 40 to test."""
    random, target = np.random.default_rng(0), folder / "cifar-10-batches-bin"
    target.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        labels, pixels = random.integers(0, 10, (40, 1)), random.integers(0, 256, (40, 3072))
        (target / name).write_bytes(np.hstack([labels, pixels]).astype(np.uint8).tobytes())
    return target


def _record(root: Path, count: int) -> None:
    """Leave records of ended runs, each with two curves, as MLflow's client does it."""
    address = loopback.find(root)
    assert address is not None
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {address.token}"
    place = f"{address.url}/mlflow/v2.0{SCOPE}/api/2.0/mlflow"
    curve = [
        {"key": k, "value": 1 / (s + 1), "timestamp": s, "step": s}
        for k in ("loss", "norm")
        for s in range(200)
    ]
    for _ in range(count):
        run_id = session.post(f"{place}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"][
            "run_id"
        ]
        session.post(f"{place}/runs/log-batch", json={"run_id": run_id, "metrics": curve}).raise_for_status()
        session.post(f"{place}/runs/update", json={"run_id": run_id, "status": "FINISHED"}).raise_for_status()


def _ask(root: Path, handles: list[RunHandle]) -> dict[str, list[float]]:
    """Return how long each page takes, in ms, three times each, as a browser that was let in asks for it."""
    session, link = requests.Session(), loopback.page_link(root)
    session.get(link).raise_for_status()
    base, ids = link.partition("/open")[0], [handle.id for handle in handles]
    pages = {"list": "/", "run": f"/runs/{ids[-1]}", "compare": "/compare?run=" + "&run=".join(ids)}
    return {page: [_timed(session, base + path) for _ in range(3)] for page, path in pages.items()}


def _timed(session: Any, address: str) -> float:
    start = time.perf_counter()
    session.get(address).raise_for_status()
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
