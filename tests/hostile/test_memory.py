"""Resident memory and threads over many fits and many runs: they do not grow with the number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from papershell.orchestration import loopback
from tests.hostile.conftest import numbers
from tests.hostile.mutation import Recorded, recording, send
from tests.hostile.test_kills import wait_for_all
from tests.orchestration.conftest import served

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(0)]
MIB = 2**20
SAMPLES = 100
# Beyond it, memory kept at each fit (X has 0.23 MB) or run would show after 1,000 of them.
SPARE_MIB = 32
FITS = """
import json, sys
import numpy as np, psutil
from sklearn.datasets import load_digits
from papershell import fit_path

backend, count, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data, process = load_digits(), psutil.Process()
X, y = data.data[:, 20:36] / 16, data.target  # sixteen pixels, for a fit to take little time
for number in range(count):
    fit_path(X, y, [10.0], backend=backend)
    if number % max(1, count // samples) == 0:
        print(json.dumps([number + 1, process.memory_info().rss, process.num_threads()]), flush=True)
"""

curves: dict[str, list[tuple[int, float]]] = {}


@pytest.fixture(scope="module", autouse=True)
def drawn():
    """Draw what the tests measured into the file that FIGURE names."""
    yield
    if path := os.environ.get("FIGURE"):
        draw(Path(path))


def draw(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for panel, title, names in (
        (axes[0], "fits", [n for n in curves if "service" not in n]), (axes[1], "runs", ["loopback service"])
    ):  # fmt: skip
        drawn = {name: curves.get(name, [(0, 0.0)]) for name in names}
        for name, curve in drawn.items():
            panel.plot(*zip(*curve, strict=True), label=name)
        top = max((size for curve in drawn.values() for _, size in curve), default=0) or 1
        panel.set(xlabel=title, ylabel="resident memory, MiB", ylim=(0, 1.3 * top))
        panel.legend(frameon=False)
    figure.savefig(path, dpi=120)


def check(figure, area: str, tried: str, curve: Sequence[tuple[int, float]]) -> None:
    """The peak of the second half exceeds that of the first by little."""
    curves[area] = list(curve)
    half = len(curve) // 2
    first, second = (max(size for _, size in part) for part in (curve[:half], curve[half:]))
    figure(area, tried, f"peak of the first half {first:.0f} MiB, of the second {second:.0f} MiB")
    assert second - first < SPARE_MIB


@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
def test_memory_over_fits(backend, figure):
    from papershell.kernels.backends import is_available

    if not is_available(backend):
        pytest.skip(f"no {backend}")
    count = len(numbers("FITS"))
    words = [sys.executable, "-c", FITS, backend, str(count), str(SAMPLES)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    samples = [json.loads(line) for line in done.stdout.splitlines()]
    check(figure, backend, f"{count} fits", [(number, rss / MIB) for number, rss, _ in samples])
    threads = {number for _, _, number in samples[1:]}
    assert max(threads) - min(threads) <= 1, threads


def submission(workspace, folder: Path) -> Recorded:
    """Let the client submit a run; return the request that queued it."""
    from azureml.core import Environment, Experiment, ScriptRunConfig

    folder.mkdir()
    (folder / "train.py").write_text("open('outputs/x', 'w').write('x')")
    config = ScriptRunConfig(
        str(folder), script="train.py", compute_target="c1", environment=Environment("e")
    )
    with recording() as found:
        Experiment(workspace, "many").submit(config)
    (request,) = [r for r in found if r.path.endswith("/snapshotrun")]
    return request


def test_memory_over_runs(tmp_path, home, figure):
    """The client's own request, again and again under other names: each is a process that runs and ends."""
    count, curve = len(numbers("RUNS")), []
    with served(tmp_path / "w", "--slots", "2") as root:
        request = submission(loopback.connect(root), tmp_path / "source")
        service = psutil.Process(loopback.find(root).pid)
        port = int(loopback.find(root).url.rpartition(":")[2])
        batch = max(1, count // SAMPLES)
        for number in range(0, count, batch):
            names = [f"many-{run}" for run in range(number, min(number + batch, count))]
            for name in names:
                assert send(port, replace(request, query=f"runId={name}").encoded()) == 200
            wait_for_all(root, names)
            curve.append((number + len(names), service.memory_info().rss / MIB))
        states = wait_for_all(root)
        assert states == {"Completed": count + 1}, states
        check(figure, "loopback service", f"{count} runs", curve)
        assert service.num_threads() < 20 and service.num_fds() < 50
        assert not service.children(recursive=True)
