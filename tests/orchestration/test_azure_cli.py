"""The command on a loopback workspace, as a user types it: submit, runs, models, cluster, preflight."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from papershell.orchestration import loopback

LOOPBACK = ("--workspace", "loopback")


@pytest.fixture(scope="module", autouse=True)
def user_workspace(home):
    """The user's own workspace is started by the first command that names it."""
    folder = Path(os.environ["PAPERSHELL_WORKSPACE"])
    yield folder
    loopback.stop(folder)


@pytest.fixture(scope="module")
def submitted(user_workspace, tmp_path_factory) -> tuple[str, str]:
    """The id and output of ``papershell submit logreg --workspace loopback --wait``."""
    done = subprocess.run(
        [sys.executable, "-m", "papershell.orchestration.cli", "submit", "logreg", *LOOPBACK, "--data", "digits",
         "--wait", "--regularization", "0.5", "--backend", "numpy"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path_factory.mktemp("project"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return re.search(r"^run (\S+)$", done.stdout, re.M)[1], done.stdout


def test_submit_logreg_end_to_end(submitted):
    _, output = submitted
    assert "training logistic regression, rate 0.5" in output
    metrics = json.loads(re.search(r"^Completed: (.*)$", output, re.M)[1])
    assert metrics["regularization rate"] == 0.5 and 0.9 < metrics["accuracy"] < 1
    assert "  outputs/sklearn_mnist_model.pkl" in output.splitlines()


OWN = """
import argparse, json, os
from helper import square
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--path")
parser.add_argument("--nodes", type=int)
args = parser.parse_args()
rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
total = square(args.nodes + rank)
if count > 1:
    import torch
    torch.distributed.init_process_group("gloo")
    shared = torch.tensor(total)
    torch.distributed.all_reduce(shared)
    total = int(shared)
    torch.distributed.destroy_process_group()
if rank == 0:
    run = Run.get_context(allow_offline=False)
    run.log("total", total)
    run.log("files", len(os.listdir(args.path)))
    with open("outputs/total.json", "w") as file:
        json.dump({"total": total, "sent": sorted(os.listdir("."))}, file)
    run.complete()
"""


@pytest.fixture
def own_project(project) -> Path:
    """A project of one's own, outside the package: a script beside a module, an ignore file, and data."""
    for name, text in {
        "code/train.py": OWN, "code/helper.py": "def square(x): return x * x", "code/notes.txt": "not sent",
        "code/.amlignore": "*.txt", "numbers/a.csv": "1", "numbers/b.csv": "2",
    }.items():  # fmt: skip
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    return project


@pytest.mark.parametrize(("processes", "total"), [(1, 9), (2, 9 + 16)])
def test_a_script_of_ones_own(processes, total, run, own_project):
    if processes > 1:
        pytest.importorskip("torch")
    words = ("submit", "code/train.py", *LOOPBACK, "--source", "code", "--data", "numbers", "--wait",
             "--processes-per-node", processes)  # fmt: skip
    code, out, err = run(*words, "--", "--path", "{data}", "--nodes", "3")
    assert code == 0, err
    run_id = re.search(r"^run (train_\S+)$", out, re.M)[1]
    assert json.loads(re.search(r"^Completed: (.*)$", out, re.M)[1]) == {"total": total, "files": 2}
    assert run("runs", "download", run_id)[0] == 0
    found = json.loads((own_project / "outputs" / "total.json").read_text())
    sent = {name for name in found["sent"] if not name.startswith("__")}
    assert found["total"] == total and sent == {".amlignore", "helper.py", "logs", "outputs", "train.py"}


def test_a_script_is_described_checked_and_exported_as_a_trainer_is(run, own_project):
    words = ("code/train.py", "--data", "numbers", "--experiment", "mine", "--", "--path", "{data}")
    code, out, _ = run("submit", words[0], "--dry-run", *words[1:])
    request = json.loads(out)
    assert code == 0 and request["experiment"] == "mine" and request["snapshot"]["files"] == 3
    command = "python train.py --path DatasetConsumptionConfig:data"
    assert request["run_configuration"]["command"] == command
    (own_project / "job.json").write_text(json.dumps(request["job"]))
    code, out, _ = run("submit", "train.py", "--job", "job.json", "--dry-run")
    assert code == 0 and json.loads(out)["job"] == request["job"]
    assert run("preflight", *words)[:2] == (0, "preflight found no errors\n")
    assert run("submit", words[0], "--export", "job.yml", *words[1:])[0] == 0
    assert {path.name for path in (own_project / "job.code").iterdir()} >= {
        "train.py",
        "helper.py",
        ".amlignore",
    }
    assert not (own_project / "job.code" / "notes.txt").exists()
    code, _, err = run("preflight", "code/notes.txt")
    assert code == 1 and "error: script notes.txt would not be sent: the ignore file of code lists it" in err
    code, _, err = run("preflight", "absent.py", "--source", "code")
    assert code == 1 and "error: there is no script absent.py in the source code" in err
    code, _, err = run("preflight", "code/train.py", "--source", "numbers")
    assert (
        code == 1
        and err
        == "error: script ../code/train.py is outside the source numbers; name a folder that holds it\n"
    )


def test_runs_of_the_workspace(submitted, run, tmp_path):
    run_id, _ = submitted
    code, out, _ = run("runs", "list", *LOOPBACK)
    assert code == 0 and run_id in out and "sklearn-mnist" in out
    code, out, _ = run("runs", "show", run_id, *LOOPBACK)
    assert code == 0 and "accuracy: 0.9" in out and "outputs/sklearn_mnist_model.pkl" in out
    code, out, _ = run("runs", "compare", run_id, run_id, *LOOPBACK)
    assert code == 0 and "regularization rate" in out
    code, out, _ = run("runs", "log", run_id)
    assert code == 0 and "training logistic regression" in out
    code, out, _ = run("runs", "download", run_id, "--out", tmp_path)
    assert code == 0 and (tmp_path / "outputs" / "sklearn_mnist_model.pkl").is_file()


def test_models_of_the_workspace(submitted, run, tmp_path):
    run_id, _ = submitted
    code, out, _ = run("runs", "register", run_id, "sklearn_mnist", "outputs/sklearn_mnist_model.pkl")
    assert code == 0 and re.search(r"registered sklearn_mnist, id sklearn_mnist:(\d+), version \1", out)
    (tmp_path / "own.bin").write_bytes(b"own")
    code, out, _ = run("models", "register", "own", tmp_path / "own.bin", *LOOPBACK)
    assert code == 0 and "id own:1" in out
    code, out, _ = run("models", "list", *LOOPBACK)
    assert code == 0 and "sklearn_mnist:1" in out and "own:1" in out
    code, out, _ = run("models", "download", "own", "--out", tmp_path / "back", *LOOPBACK)
    assert code == 0 and (tmp_path / "back" / "own.bin").read_bytes() == b"own"
    code, _, err = run("models", "download", "nameless", *LOOPBACK)
    assert code == 1 and err.startswith("error: could not download model nameless:*")
    assert not Path("model").exists()


def test_cancel(run, tmp_path):
    """A job of one's own from a file; it waits for data that never comes, so to speak."""
    code, out, _ = run("submit", "logreg", *LOOPBACK, "--data", "digits", "--experiment", "to-cancel")
    run_id = out.split()[1]
    assert code == 0
    code, out, _ = run("runs", "cancel", run_id)
    assert code == 0 and out.strip() in ("Canceled", "Completed")


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory) -> Path:
    """CIFAR-10's six files with 40 random images each."""
    folder, random = tmp_path_factory.mktemp("data") / "cifar10", np.random.default_rng(0)
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = random.integers(0, 256, (40, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "library", "flags"),
    [
        ("keras-mnist", "keras", ("--data", "digits", "--epochs", "1")),
        ("torch-cifar10", "torch", ("--epochs", "1", "--print-every", "10")),
        ("torch-cifar10", "torch", ("--epochs", "1", "--print-every", "10", "--nodes", "2")),
        ("logreg", "torch", ("--data", "digits", "--regularization", "0.8", "--nodes", "2")),
    ],
)
def test_the_other_trainers_run_through_the_workspace(trainer, library, flags, run, cifar10):
    if importlib.util.find_spec(library) is None:  # not imported: TensorFlow shares a process with nobody
        pytest.skip(f"{library} is not installed")
    data = () if "--data" in flags else ("--data", cifar10)
    code, out, err = run("submit", trainer, *LOOPBACK, *flags, *data, "--wait")
    assert code == 0, err
    metrics = json.loads(re.search(r"^Completed: (.*)$", out, re.M)[1])
    assert "loss" in metrics or metrics["accuracy"] > 0.9


def test_a_failed_run_is_exit_code_1_with_the_end_of_its_log(run):
    code, _, err = run("submit", "logreg", *LOOPBACK, "--data", "digits", "--wait", "--out", "/dev/null/x")
    assert code == 1 and "ended as Failed" in err and "/dev/null/x" in err
    run_id = re.search(r"run (\S+) ended as", err)[1]
    code, out, _ = run("runs", "show", run_id, *LOOPBACK)
    assert (
        code == 0
        and "failed" in out
        and "failure: node 0 ended with exit code 1" in out
        and "/dev/null/x" in out
    )


def test_wrong_flags_and_data_leave_nothing_behind(run, project, user_workspace):
    """Nothing is uploaded, created or queued."""
    run("workspace", "show", *LOOPBACK)
    before = (user_workspace / "access.log").read_bytes()
    for words, says in (
        (
            ("--regularisation", "0.5"),
            "unrecognized arguments: --regularisation 0.5; did you mean --regularization?",
        ),
        (("--regularization", "nan"), "argument --regularization: 'nan' is not a number above zero"),
        (("--data", "."), "logreg cannot read its data: no train-images and no train-labels"),
        (("--data-folder", "mine"), "--data-folder mine is not of this machine; name the data with --data"),
    ):
        (project / "x").touch()
        data = () if "--data" in words else ("--data", "digits")
        code, out, err = run("submit", "logreg", *LOOPBACK, *data, *words)
        assert code == 1 and out == "" and says in err
        assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert (user_workspace / "access.log").read_bytes() == before


def test_the_second_submission_of_the_same_data_sends_none(run, project):
    (project / "numbers").mkdir()
    for name in ("a", "b"):
        (project / "numbers" / name).write_text(name)
    (project / "train.py").write_text("print(1)")
    for sent in ("uploaded 2 of 2 files, 2 bytes, to numbers", "uploaded 0 of 2 files, 0 bytes, to numbers"):
        code, _, err = run("submit", "train.py", *LOOPBACK, "--data", "numbers")
        assert code == 0 and sent in err


def test_one_rule_for_the_default_workspace(run, project):
    """config.json in the current folder or in .azureml, else this machine."""
    for words in (("submit", "logreg", "--data", "digits"), ("runs", "log", "x"), ("runs", "list"), ("models", "list"),
                  ("cluster", "status", "c1"), ("workspace", "show")):  # fmt: skip
        for place in ("config.json", ".azureml/config.json"):
            (project / place).parent.mkdir(exist_ok=True)
            (project / place).write_text("[]")
            code, _, err = run(*words)
            assert code == 1 and f"error: {place} lacks subscription_id" in err
            (project / place).unlink()
    assert run("models", "list", "--workspace", "local")[0] == 0
    (project / "config.json").write_text("[]")
    assert run("runs", "list", "--workspace", "local")[0] == 0
    assert run("workspace", "show", *LOOPBACK)[0] == 0
    (project / "config.json").unlink()
    assert run("runs", "list")[0] == 0 and not (project / "config.json").exists()
    code, out, _ = run("workspace", "show")
    assert code == 0 and "azureml-core" in out


def test_a_failed_run_of_this_machine_says_why(run, project):
    """Training ends in an error while its run is open: the model's folder cannot be made."""
    (project / "outputs").write_text("a file")
    code, _, err = run("train", "logreg", "--data-folder", "digits", "--regularization", "0.5")
    assert code == 1
    listed = run("runs", "list")[1]
    (line,) = [line for line in listed.splitlines() if "failed" in line]
    code, out, _ = run("runs", "show", line.split()[0])
    assert code == 0 and f"failure: {err.removeprefix('error: ')}" in out


def test_clusters(run):
    code, out, _ = run("cluster", "create", "c2", "--vm-size", "STANDARD_NC6", *LOOPBACK)
    assert code == 0 and "cluster c2: Succeeded" in out
    code, out, _ = run("cluster", "status", "c2", *LOOPBACK)
    assert code == 0 and "STANDARD_NC6" in out
    code, out, _ = run("cluster", "delete", "c2", *LOOPBACK)
    assert code == 0 and out == "cluster c2 is gone\n"
    for words in ("status", "delete"):
        code, _, err = run("cluster", words, "c2", *LOOPBACK)
        assert code == 1 and "has no cluster 'c2'; it has " in err and "create" not in err


def test_the_workspace_is_shown(submitted, run):
    code, out, _ = run("workspace", "show", *LOOPBACK)
    assert code == 0
    for word in ("azureml-core", "1.61", "resource group", "cpucluster", "digits-dataset", "sklearn-mnist"):
        assert word in out


def test_preflight_stops_the_default_gpu_job_and_names_the_successor(run):
    code, out, err = run("preflight", "keras-mnist", "--data", "digits")
    assert code == 1 and out == ""
    assert "error: VM size STANDARD_NC6 was retired on 2023-09-06; take STANDARD_NC4as_T4_v3" in err
    code, out, err = run("preflight", "keras-mnist", "--data", "digits", "--vm-size", "STANDARD_NC4as_T4_v3")
    assert (code, out, err) == (0, "preflight found no errors\n", "")


def test_azures_machines_do_not_stop_a_run_on_this_one(run):
    code, out, err = run("submit", "keras-mnist", *LOOPBACK, "--data", "digits", "--dry-run")
    assert code == 0 and "warning (on Azure an error): VM size STANDARD_NC6" in err
    assert json.loads(out)["run_configuration"]["target"] == "gpu-cluster"


def test_a_dry_run_needs_no_network_and_no_workspace(run, monkeypatch):
    import socket

    def refuse(*args, **settings):
        raise AssertionError("a dry run asked the network")

    code, _, _ = run("data", "show", "digits")  # lets the embedded data set be written
    monkeypatch.setattr(socket.socket, "connect", refuse)
    code, out, err = run("submit", "logreg", "--data", "digits", "--dry-run", "--nodes", "1", "--out", "o p")
    assert code == 0, err
    request = json.loads(out)
    command = "python -m papershell.trainers.logreg --data-folder DatasetConsumptionConfig:data --out 'o p'"
    assert request["run_configuration"]["command"] == command
    assert request["job"]["cluster"]["vm_size"] == "STANDARD_D2_V2" and "retires on 2028-05-01" in err
    assert set(request["data"]["bytes"]) == {
        "train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz"
    }  # fmt: skip


def test_a_job_from_a_file(run, tmp_path):
    code, out, _ = run("submit", "logreg", "--data", "digits", "--dry-run", "--experiment", "from-file")
    job = json.loads(out)["job"]
    (tmp_path / "job.json").write_text(json.dumps(job))
    code, out, _ = run("submit", "logreg", "--job", tmp_path / "job.json", "--dry-run")
    assert code == 0 and json.loads(out)["job"] == job
    (tmp_path / "job.json").write_text(json.dumps(job | {"gpus": 8}))
    code, _, err = run("submit", "logreg", "--job", tmp_path / "job.json", "--dry-run")
    assert code == 1 and "the job has no field 'gpus'; its fields are trainer, cluster" in err
    (tmp_path / "job.json").write_text(json.dumps(job))
    for words, unused in (
        (("logreg", "--nodes", "2"), "--nodes"),
        (("logreg", "--regularization", "0.5"), "--regularization, 0.5"),
        (("keras-mnist",), "trainer 'keras-mnist'"),
    ):
        code, _, err = run("submit", *words, "--job", tmp_path / "job.json", "--dry-run")
        assert code == 1 and f"says all of the job, for logreg; leave out {unused}" in err


def test_export(run, tmp_path):
    code, out, _ = run("submit", "logreg", "--data", "digits", "--export", tmp_path / "job.yml")
    written = [Path(line.removeprefix("wrote ")) for line in out.splitlines()]
    assert code == 0 and set(written) == set(tmp_path.glob("job.*")) and len(written) == 5
    assert (tmp_path / "job.code" / "papershell" / "trainers" / "logreg.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("submit", "xgboost"),
            "trainer 'xgboost' is unknown; choose one of logreg, keras-mnist, torch-cifar10",
        ),
        (
            ("submit", "logreg", "--data", "digits", "--workspace", "away.json"),
            "there is no away.json; download it",
        ),
        (("submit", "logreg", "--data", "digits", "--cluster", "x" * 17), "must be 2 to 16 letters"),
        (("submit", "logreg", "--data", "digits", "--experiment", "x" * 256), "must be 1 to 255 letters"),
        (("cluster", "create", "c", *LOOPBACK), "cluster 'c' must be 2 to 16 letters"),
        (("runs", "log", "nothing"), "could not find run nothing: there is no run 'nothing'"),
        (("workspace", "serve", "--root", "w", "--fault", "slow"), "fault 'slow' is not KIND"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(arguments, says, run):
    code, _, err = run(*arguments)
    assert code == 1 and says in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


def test_serve_until_interrupted(tmp_path, run):
    import signal

    process = subprocess.Popen(
        [sys.executable, "-m", "papershell.orchestration.cli", "workspace", "serve", "--root", str(tmp_path / "w")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline().startswith("serving ")
        deadline = time.monotonic() + 20
        while not loopback.find(tmp_path / "w"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        code, _out, _ = run("runs", "list", "--workspace", tmp_path / "w" / "config.json")
        assert code == 0
        second = tmp_path / "copy"
        shutil.copytree(tmp_path / "w", second, ignore=shutil.ignore_patterns("service.json", "lock"))
        code, _, err = run("runs", "list", "--workspace", second)
        assert code == 1 and "no loopback service answers" in err
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert not (tmp_path / "w" / "service.json").exists()


def test_help_is_quick_and_loads_no_azure():
    script = (
        "import sys; from papershell.orchestration.cli import main\n"
        "try: main(['submit', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('azureml', 'werkzeug', 'yaml', 'requests', 'packaging') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
