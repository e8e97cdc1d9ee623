"""Commands and the service, killed at random moments: every file is whole afterwards, and the next command works."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from papershell import write_idx
from papershell.orchestration import loopback
from papershell.orchestration.azure.run_handle import FINAL_STATES
from papershell.trainers.datasets import DOWNLOADS
from tests.hostile.conftest import count_of
from tests.orchestration.conftest import served

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(0)]
COMMAND = [sys.executable, "-m", "papershell"]
# The command with another address to download from, and otherwise itself.
FETCH = """
import sys, dataclasses
from papershell.orchestration.cli import main
from papershell.trainers import datasets
datasets.DOWNLOADS["mnist"] = dataclasses.replace(datasets.DOWNLOADS["mnist"], mirrors=(sys.argv.pop(1),))
main(sys.argv[1:])
"""


class Victim:
    """A command that is killed again and again in one folder, after a random part of its usual time."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.command, self.folder = command, folder
        start = time.monotonic()
        self.finish()
        self.usual_s = time.monotonic() - start

    def finish(self) -> None:
        """Run the command to its end, which must be a good one."""
        done = subprocess.run(self.command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self, rng: random.Random) -> bool:
        """Begin the command and kill it; return whether it had ended by itself."""
        process = subprocess.Popen(
            self.command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 1.1 * self.usual_s))
        ended = process.poll() is not None
        process.kill()
        process.wait()
        return ended


def ask(folder: Path, *words: object) -> str:
    done = subprocess.run([*COMMAND, *map(str, words)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def check_whole(folder: Path) -> int:
    """Read every file of a folder by its kind; return how many unfinished files a kill left beside them."""
    for path in (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".part-")):
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                assert all(
                    np.isfinite(arrays[name]).all() for name in arrays if arrays[name].dtype.kind == "f"
                )
        elif path.suffix == ".pkl":
            import joblib

            assert joblib.load(path).predict(np.zeros((1, 64))).shape == (1,)
        elif path.suffix == ".png":
            import matplotlib.image

            assert matplotlib.image.imread(path).ndim == 3
    return sum(1 for _ in folder.rglob(".part-*"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits as a folder of IDX files."""
    folder, data = tmp_path_factory.mktemp("digits"), load_digits()
    images = (data.images * 15).astype(np.uint8)
    for part, rows in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images[rows])
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", data.target[rows])
    return folder


@pytest.fixture
def report(figure) -> Iterator[Callable[[str, int, Counter], None]]:
    yield lambda kind, kills, seen: figure(
        f"kill -9 of {kind}", f"{kills} kills",
        "; ".join(["all checks passed", *(f"{name}: {number}" for name, number in sorted(seen.items()))]),
    )  # fmt: skip


def kills() -> Iterator[random.Random]:
    """A fifth of the kills: each of the five tests makes one."""
    for number in range(max(1, count_of("KILLS") // 5)):
        yield random.Random(number)


@pytest.mark.parametrize("kind", ["sweep", "train"])
def test_killed_fits(kind, digits, project, report):
    out = ["--out", "outputs"]
    words = ["sweep", "--data", "digits"] if kind == "sweep" else ["train", "logreg", "--data-folder", digits]
    victim = Victim([*COMMAND, *map(str, words), *out], project)
    seen: Counter = Counter()
    for rng in kills():
        seen["ended first"] += victim.kill(rng)
        seen["unfinished files left"] = check_whole(project / "outputs")
        ask(project, "runs", "list")
        ask(project, "models", "list")
    victim.finish()
    check_whole(project / "outputs")
    report(kind, sum(1 for _ in kills()), seen)


def test_killed_downloads(mnist_folder, project, report):
    source = next(mnist_folder.rglob("train-images-idx3-ubyte.gz")).parent
    with slow_mirror(source) as address:
        fetch = [sys.executable, "-c", FETCH, address, "data", "fetch", "mnist", "--data-folder"]
        victim = Victim([*fetch, "first"], project)
        seen: Counter = Counter()
        for number, rng in enumerate(kills()):
            folder = project / str(number)
            victim.command = [*fetch, folder.name]
            seen["ended first"] += victim.kill(rng)
            digests = DOWNLOADS["mnist"].sha256
            for path in folder.rglob("*") if folder.exists() else ():
                content = path.read_bytes() if path.is_file() and path.name in digests else None
                assert content is None or hashlib.sha256(content).hexdigest() == digests[path.name], path
            victim.finish()
            assert {path.name for path in folder.rglob("*")} == set(digests)
        report("data fetch", sum(1 for _ in kills()), seen)


@contextlib.contextmanager
def slow_mirror(folder: Path) -> Iterator[str]:
    """Serve a folder slowly enough that a download lasts as long as the command takes to start."""

    class Slow(SimpleHTTPRequestHandler):
        def copyfile(self, source: io.BytesIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
            while chunk := source.read(1 << 18):
                outputfile.write(chunk)
                time.sleep(0.05)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Slow, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_killed_submissions(digits, project, report):
    with served(project / "w", "--slots", "2"):
        submit = ["submit", "logreg", "--workspace", project / "w", "--data", digits]
        victim = Victim([*COMMAND, *map(str, submit)], project)
        seen: Counter = Counter()
        for rng in kills():
            seen["ended first"] += victim.kill(rng)
            ask(project, "runs", "list", "--workspace", project / "w")
        states = wait_for_all(project / "w")
        assert set(states) <= {"Completed"}, states
        victim.finish()
        assert list((project / "w").rglob(".part-*")) == []
        report("submit", sum(1 for _ in kills()), seen | states)


def wait_for_all(root: Path, timeout_s: float = 600) -> Counter:
    """Wait until every submitted run of a workspace has ended; return how often each state came."""
    from papershell.orchestration.loopback.run_history import FINAL
    from papershell.orchestration.loopback.store import Store

    deadline = time.monotonic() + timeout_s
    while True:
        store = Store(root / "state.sqlite")
        runs = [store.get("run", s["runId"]) for s in store.all("submission")]
        store.close()
        states = Counter(run["status"] for run in runs if run)
        if set(states) <= set(FINAL):
            return states
        assert time.monotonic() < deadline, states
        time.sleep(0.1)


HANGS = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep, env={"MARK": sys.argv[1]}, start_new_session=True)
print("up", flush=True)
time.sleep(0.3)
"""


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("MARK") == mark or mark in process.cmdline():
                found.append(process)
    return found


def test_killed_services(tmp_path, home, report):
    from azureml.core import Environment, Experiment, ScriptRunConfig

    root, mark = tmp_path / "w", f"hostile-{os.getpid()}"
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "train.py").write_text(HANGS)
    config = ScriptRunConfig(
        str(tmp_path / "s"), script="train.py", arguments=[mark], compute_target="c1",
        environment=Environment("e"),
    )  # fmt: skip
    seen: Counter = Counter()
    with ExitStack() as stack:
        stack.enter_context(served(root))
        for rng in kills():
            run = Experiment(loopback.connect(root), "killed").submit(config)
            time.sleep(rng.uniform(0, 1.5))
            psutil.Process(loopback.find(root).pid).kill()
            loopback.start(root)
            state = run.get_status()
            assert state in FINAL_STATES, state
            seen[state] += 1
            assert list(root.rglob(".part-*")) == []
            deadline = time.monotonic() + 30  # the supervisors' grace, on a busy machine
            while left := marked(mark):
                assert time.monotonic() < deadline, left
                time.sleep(0.05)
        report("workspace serve", sum(1 for _ in kills()), seen)
