"""Commands and the service, killed at random moments: every file is whole afterwards, and the next command works."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits

from papershell import write_idx
from papershell.orchestration import loopback
from papershell.orchestration.azure.run_handle import FINAL_STATES
from papershell.orchestration.cli import main
from papershell.trainers.datasets import DOWNLOADS
from tests.hostile.conftest import numbers
from tests.orchestration.conftest import served

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(0)]
# Half of a command's time goes into loading these, and a kill in that half finds nothing to damage: the commands are
# forked from a process that has loaded them.
LOADED = [
    "azureml.core", "matplotlib.figure", "mlflow", "papershell.trainers.logreg", "papershell.trainers.sweep",
    "papershell.trainers.registry", "requests", "sklearn.linear_model", __name__,
]  # fmt: skip


@functools.cache
def server() -> ForkServerContext:
    """A process from which the commands are forked; it starts with the first of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def command(words: list[str], folder: Path) -> None:
    """Run ``papershell`` in ``folder``, silently but for what a failure says."""
    os.chdir(folder)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    main(words)


def fetch(address: str, words: list[str], folder: Path) -> None:
    """Run the command with another address to download from, and otherwise itself."""
    DOWNLOADS["mnist"] = replace(DOWNLOADS["mnist"], mirrors=(address,))
    command(words, folder)


class Victim:
    """A call that is killed again and again, each time in a new process, after a random part of its usual time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.finish()  # the first one starts the server
        start = time.monotonic()
        self.finish()
        self.usual_s = time.monotonic() - start

    def begin(self) -> ForkServerProcess:
        process = server().Process(target=self.call)
        process.start()
        return process

    def finish(self) -> None:
        """Run the call to its end, which must be a good one."""
        process = self.begin()
        process.join()
        assert process.exitcode == 0

    def kill(self, rng: random.Random) -> bool:
        """Begin the call and kill it; return whether it had ended by itself."""
        process = self.begin()
        process.join(rng.uniform(0, 1.1 * self.usual_s))
        ended = process.exitcode is not None
        process.kill()
        process.join()
        return ended


def ask(*words: object) -> str:
    """Run a command of ``papershell`` in this process and folder; it must end well."""
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    assert not ended.value.code, (words, said.getvalue())
    return said.getvalue()


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
def report(figure) -> Iterator[Callable[[str, Counter], None]]:
    yield lambda kind, seen: figure(
        f"kill -9 of {kind}", f"{len(list(kills()))} kills",
        "; ".join(["all checks passed", *(f"{name}: {number}" for name, number in sorted(seen.items()))]),
    )  # fmt: skip


def kills() -> Iterator[random.Random]:
    """A fifth of the kills: each of the five tests makes one."""
    for number in numbers("KILLS", share=5):
        yield random.Random(number)


@pytest.mark.parametrize("kind", ["sweep", "train"])
def test_killed_fits(kind, digits, project, report):
    words = ["sweep", "--data", "digits"] if kind == "sweep" else ["train", "logreg", "--data-folder", digits]
    victim = Victim(partial(command, [*map(str, words), "--out", "outputs"], project))
    seen: Counter = Counter()
    for rng in kills():
        seen["ended first"] += victim.kill(rng)
        seen["unfinished files left"] = check_whole(project / "outputs")
        ask("runs", "list")
        ask("models", "list")
    victim.finish()
    check_whole(project / "outputs")
    report(kind, seen)


def test_killed_downloads(mnist_folder, project, report):
    source = next(mnist_folder.rglob("train-images-idx3-ubyte.gz")).parent
    with slow_mirror(source) as address:
        words = ["data", "fetch", "mnist", "--data-folder"]
        victim = Victim(partial(fetch, address, [*words, "first"], project))
        seen: Counter = Counter()
        for number, rng in enumerate(kills()):
            folder = project / str(number)
            victim.call = partial(fetch, address, [*words, folder.name], project)
            seen["ended first"] += victim.kill(rng)
            digests = DOWNLOADS["mnist"].sha256
            for path in folder.rglob("*") if folder.exists() else ():
                content = path.read_bytes() if path.is_file() and path.name in digests else None
                assert content is None or hashlib.sha256(content).hexdigest() == digests[path.name], path
            victim.finish()
            assert {path.name for path in folder.rglob("*")} == set(digests)
        report("data fetch", seen)


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
        victim = Victim(partial(command, [*map(str, submit)], project))
        seen: Counter = Counter()
        for rng in kills():
            seen["ended first"] += victim.kill(rng)
            ask("runs", "list", "--workspace", project / "w")
        states = wait_for_all(project / "w")
        assert set(states) <= {"Completed"}, states
        victim.finish()
        assert list((project / "w").rglob(".part-*")) == []
        report("submit", seen | states)


def wait_for_all(root: Path, names: Collection[str] = (), timeout_s: float = 600) -> Counter:
    """Wait until these runs of a workspace, or all submitted ones, have ended; return how often each state came."""
    from papershell.orchestration.loopback.run_history import FINAL
    from papershell.orchestration.loopback.store import Store

    deadline = time.monotonic() + timeout_s
    while True:
        store = Store(root / "state.sqlite")
        runs = [store.get("run", name) for name in names or [s["runId"] for s in store.all("submission")]]
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
        report("workspace serve", seen)
