"""The command's own manners: version, help, interrupts, missing extras, and what asks no network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

import papershell
from papershell.orchestration.cli import extra_with
from papershell.orchestration.table import size_text

MAIN = "from papershell.orchestration.cli import main\n"


def command(*arguments: object, before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, after the Python text ``before``."""
    script = f"import sys\n{before}\n{MAIN}main({[str(a) for a in arguments]!r})"
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | variables,
    )


def without(*modules: str) -> str:
    """Return Python text after which these modules cannot be imported."""
    return f"sys.modules.update(dict.fromkeys({modules!r}))"


def test_version_and_help_through_python_m(project):
    for words, says in ((["--version"], f"papershell {papershell.__version__}\n"), (["--help"], "Usage: ")):
        done = subprocess.run(
            [sys.executable, "-m", "papershell", *words], capture_output=True, text=True, check=True
        )
        assert says in done.stdout and done.stderr == ""
    assert papershell.__version__ == metadata.version("papershell")


AZURE = ("yaml", "pathspec", "azureml", "azure", "werkzeug", "jwt", "psutil")


@pytest.mark.parametrize(
    ("extra", "modules", "words"),
    [
        ("azure", AZURE, ("preflight", "logreg", "--data", "digits")),
        ("azure", AZURE, ("submit", "logreg", "--data", "digits", "--dry-run")),
        ("azure", AZURE, ("submit", "logreg", "--data", "digits", "--export", "job.yml")),
        ("azure", AZURE, ("workspace", "show", "--workspace", "loopback")),
        ("azure", AZURE, ("workspace", "serve", "--root", "w")),
        ("azure", AZURE, ("runs", "log", "any")),
        ("track", ("mlflow",), ("runs", "list")),
        ("torch", ("torch",), ("train", "torch-cifar10")),
        ("keras", ("keras", "tensorflow"), ("train", "keras-mnist", "--data-folder", "digits")),
        ("cuda", ("cupy",), ("sweep", "--backend", "cupy")),
        ("bench", ("pytest", "pytest_benchmark"), ("bench", "run", "--smoke")),
    ],
)
def test_a_missing_extra_is_one_sentence(extra, modules, words, project):
    done = command(*words, before=without(*modules))
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert f"pip install 'papershell[{extra}]' adds " in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("extra", "modules"),
    [
        ("azure", "yaml azureml.core azure jwt pathspec werkzeug psutil cryptography"),
        ("torch", "torch array_api_compat"),
        ("keras", "keras tensorflow"),
        ("jax", "jax"),
        ("cuda", "cupy"),
        ("files", "safetensors ml_dtypes pyarrow.parquet"),
        ("onnx", "onnx"),
        ("track", "mlflow mlflow.entities"),
        ("bench", "pytest pytest_benchmark deflate"),
        (None, "numpy rich typer selenium hypothesis no_such_module tens"),
    ],
)
def test_the_metadata_leads_from_a_module_to_its_extra(extra, modules):
    assert {extra_with(module) for module in modules.split()} == {extra}


NO_NETWORK = """
import os
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print(event, arguments, flush=True)
        os._exit(99)
sys.addaudithook(refuse)
"""


@pytest.mark.parametrize("data", ["mnist", "digits", "cifar10", "dataset:mine"])
@pytest.mark.parametrize("how", [("preflight",), ("submit", "--dry-run"), ("submit", "--export", "job.yml")])
def test_what_asks_no_network_downloads_nothing(how, data, project, tmp_path):
    """Any use of a socket, also in a thread that the SDK starts, ends the process with 99."""
    pytest.importorskip("azureml")
    done = command(how[0], "logreg", "--data", data, *how[1:], before=NO_NETWORK, PAPERSHELL_DATA="nowhere")
    there = data in ("digits", "dataset:mine")
    assert done.returncode == (0 if there else 1), done.stdout + done.stderr
    assert there or f"there is no data folder {Path('nowhere', data)}; `papershell data fetch`" in done.stderr
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (47_012, "47.0 kB"), (11_594_722, "11.6 MB"),
     (3e11, "300.0 GB")],
)  # fmt: skip
def test_sizes_are_shown_in_fitting_units(size_bytes, text):
    assert size_text(size_bytes) == text


def test_ctrl_c_is_one_line_and_130(project):
    pytest.importorskip("azureml")
    os.mkfifo("job.json")
    words = ["submit", "logreg", "--job", "job.json", "--dry-run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "papershell", *words], stderr=subprocess.PIPE, text=True
    )
    with open("job.json", "w"):  # opens when the command reads
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert process.stderr.read() == "interrupted: files that were written are whole\n"
    process.stderr.close()


def test_ctrl_c_after_submit_wait_names_the_run_that_goes_on(project, tmp_path_factory, run):
    pytest.importorskip("azureml")
    from azureml.core import Environment, Experiment, ScriptRunConfig

    from papershell.orchestration import loopback
    from papershell.orchestration.azure.run_handle import find_run
    from tests.orchestration.conftest import served

    (project / "source").mkdir()
    (project / "source" / "train.py").write_text("import time; time.sleep(600)")
    with served(tmp_path_factory.mktemp("queue"), "--slots", "1") as root:
        workspace = loopback.connect(root)
        config = ScriptRunConfig("source", "train.py", compute_target="c1", environment=Environment("e"))
        first = Experiment(workspace, "busy").submit(config)  # takes the only slot, so the next one waits
        words = [
            "submit",
            "logreg",
            "--workspace",
            str(root),
            "--data",
            "digits",
            "--cluster",
            "c1",
            "--wait",
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "papershell", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        run_id = process.stdout.readline().split()[1]
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        cancel = f"papershell runs cancel {run_id} --workspace {root}"
        assert process.returncode == 130 and out == ""
        assert err.splitlines()[-1] == f"interrupted: run {run_id} goes on; `{cancel}` ends it"
        assert find_run(workspace, run_id).status() not in ("Completed", "Failed", "Canceled")
        assert run(*cancel.split()[1:])[:2] == (0, "Canceled\n")
        first.cancel()
