"""The record of runs and models, on a genuine MLflow store."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from papershell.trainers.recording import TrackingError
from papershell.trainers.registry import download_model, list_models, register_model
from papershell.trainers.run_history import get_run, list_runs
from papershell.trainers.tracking import start_run

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed"
)


def a_run(name: str = "first", accuracy: float = 0.9) -> None:
    with start_run("tests", name) as run:
        run.log_params({"rate": 0.8, "loss": "ovr"})
        for step in range(3):
            run.log_metrics({"loss": 1.0 / (step + 1)}, step)
        run.log_metrics({"accuracy": accuracy})


@needs_mlflow
def test_a_run_is_found_again_with_what_it_logged(project):
    (project / "note.txt").write_text("hello")
    with start_run("tests", "first") as run:
        run.log_params({"rate": 0.8})
        run.log_metrics({"accuracy": 0.9})
        run.log_artifact(Path("note.txt"))
    (found,) = list_runs()
    assert (found.name, found.experiment, found.status) == ("first", "tests", "FINISHED")
    shown = get_run(found.id[:6])
    assert shown.params == {"rate": "0.8"} and shown.metrics == {"accuracy": 0.9}
    assert list(shown.files) == ["note.txt"]


@needs_mlflow
def test_the_curve_is_kept_step_by_step(project):
    from mlflow import MlflowClient

    a_run()
    client = MlflowClient(f"sqlite:///{project}/.papershell/mlflow.db")
    history = client.get_metric_history(list_runs()[0].id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


@needs_mlflow
def test_a_run_left_by_an_exception_is_marked_failed(project):
    with pytest.raises(KeyError), start_run("tests", "doomed"):
        raise KeyError
    assert list_runs()[0].status == "FAILED"


@needs_mlflow
def test_an_interrupted_run_is_marked_killed(project):
    with pytest.raises(KeyboardInterrupt), start_run("tests", "stopped"):
        raise KeyboardInterrupt
    assert list_runs()[0].status == "KILLED"


A_RUN = """
import sys
from papershell.trainers.run_history import list_runs
from papershell.trainers.tracking import start_run
with start_run("tests", sys.argv[1]) as run:
    run.log_metrics({"accuracy": 0.9})
    print("started", flush=True)
    sys.stdin.readline()
"""
A_LIST = """
from papershell.trainers.run_history import list_runs
print(sorted((run.name, run.status) for run in list_runs()))
"""


def a_process(script: str, *arguments: str) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], text=True, env=environment, **pipes)


@needs_mlflow
def test_the_next_command_closes_the_run_of_a_killed_one_and_no_other(project):
    with a_process(A_RUN, "killed") as killed, a_process(A_RUN, "alive") as alive:
        assert [process.stdout.readline() for process in (killed, alive)] == ["started\n"] * 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with a_process(A_LIST) as first:
            printed, told = first.communicate()
        assert printed == f"{[('alive', 'RUNNING'), ('killed', 'KILLED')]}\n"
        assert told.count("\n") == 1 and "(killed) was killed before it ended" in told
        with a_process(A_LIST) as second:
            assert second.communicate() == (printed, "")
        alive.communicate("end\n")
    assert [run.status for run in list_runs() if run.name == "alive"] == ["FINISHED"]
    assert list((project / ".papershell" / "running").iterdir()) == []


KILLED_AMONG_ITS_TABLES = """
import os, signal, threading
from pathlib import Path
from papershell.trainers.run_history import list_runs

def sizes():
    return [path.stat().st_size for path in Path(".papershell").glob("*") if "journal" not in path.name]

def watch():
    while not sizes() or max(sizes()) < 100_000:  # the whole record has more than 500,000 bytes
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
list_runs()
"""


@needs_mlflow
def test_a_first_command_that_is_killed_leaves_no_half_a_record(tmp_path, monkeypatch):
    """MLflow makes its tables step by step, and cannot go on with some of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with a_process(KILLED_AMONG_ITS_TABLES) as killed:
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert list_runs() == []
    assert [path.name for path in (tmp_path / ".papershell").iterdir()] == ["mlflow.db"]


@needs_mlflow
def test_first_commands_at_once_make_one_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    processes = [a_process(A_RUN, name) for name in "abc"]
    ended = [process.communicate("end\n") for process in processes]
    assert ended == [("started\n", "")] * 3
    assert sorted((run.name, run.status) for run in list_runs()) == [(name, "FINISHED") for name in "abc"]


@needs_mlflow
@pytest.mark.parametrize("damage", ["all of it", "its head", "its middle", "a folder"])
def test_a_damaged_record_is_one_sentence_with_the_way_out(project, damage):
    a_run()
    database = project / "damaged" / "mlflow.db"
    content = bytearray((project / ".papershell" / "mlflow.db").read_bytes())
    stretch = {"all of it": slice(None), "its head": slice(0, 100), "its middle": slice(4096, None)}
    database.parent.mkdir()
    if damage == "a folder":
        database.mkdir()
    else:
        content[stretch[damage]] = os.urandom(len(content[stretch[damage]]))
        database.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        for command in (list_runs, list_models, a_run):
            with pytest.raises(TrackingError, match="move it away") as failure:
                command()
            message = str(failure.value)
            assert str(database) in message and "\n" not in message
            assert "SELECT" not in message and "sqlalche" not in message


@needs_mlflow
def test_a_name_that_the_registry_refuses_is_one_sentence(project):
    (project / "model.npz").write_bytes(b"one")
    with pytest.raises(TrackingError, match="name"):
        register_model("a/b:c", [Path("model.npz")])


@needs_mlflow
def test_an_ambiguous_or_unknown_run_is_one_sentence(project):
    a_run("first")
    a_run("second")
    assert [run.name for run in list_runs()] == ["second", "first"]
    assert len(list_runs(limit=1)) == 1
    with pytest.raises(TrackingError, match="2 runs begin with ''"):
        get_run("")
    with pytest.raises(TrackingError, match="no run begins with 'xyz'"):
        get_run("xyz")


@needs_mlflow
def test_models_get_versions_and_come_back_byte_for_byte(project):
    versions = []
    for content in (b"one", b"two"):
        (project / "model.npz").write_bytes(content)
        versions.append(register_model("digits", [Path("model.npz")]))
    assert [version.id for version in versions] == ["digits:1", "digits:2"]
    assert [model.version for model in list_models()] == ["2", "1"]
    (newest,) = download_model("digits", None, Path("out"))
    assert newest == Path("out/model.npz") and newest.read_bytes() == b"two"
    download_model("digits", "1", Path("out"))
    assert newest.read_bytes() == b"one"
    assert [path.name for path in Path("out").iterdir()] == ["model.npz"]


@needs_mlflow
@pytest.mark.parametrize(("name", "version"), [("nothing", None), ("digits", "7")])
def test_a_model_that_is_not_there_is_one_sentence(project, name, version):
    (project / "model.npz").write_bytes(b"one")
    register_model("digits", [Path("model.npz")])
    with pytest.raises(TrackingError, match="papershell models list"):
        download_model(name, version, Path("out"))
    assert not Path("out").exists()


@needs_mlflow
def test_the_standard_variable_names_another_store(project, monkeypatch):
    (project / ".papershell").rename(project / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/elsewhere/mlflow.db")
    a_run()
    assert not (project / ".papershell").exists()
    assert len(list_runs()) == 1


@needs_mlflow
def test_a_new_store_prints_nothing_and_writes_nothing_else(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    script = (
        "from papershell.trainers.tracking import start_run\n"
        "with start_run('tests', 'first') as run: run.log_metrics({'accuracy': 0.9})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == [".papershell"]


def test_without_mlflow_work_goes_on_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "mlflow" else find_spec(n, *a)
    )
    with start_run("tests", "first") as run:
        run.log_params({"rate": 1})
        run.log_metrics({"accuracy": 0.9}, 1)
        run.log_artifact(Path("absent"))
        assert run.register_model("digits", []) is None
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(TrackingError, match=r"papershell\[track\]"):
        list_runs()
    assert list(tmp_path.iterdir()) == []


def test_inside_a_job_without_its_connection_nothing_is_pretended(project, monkeypatch):
    core = pytest.importorskip("azureml.core")
    monkeypatch.setenv("AZUREML_RUN_ID", "sklearn-mnist_1")
    with pytest.raises(core.run.RunEnvironmentException), start_run("tests", "job"):
        pass
