"""The life of a submitted process: exit codes, cancel, time limits, torchrun, restarts."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
import werkzeug.exceptions as http

from papershell.orchestration import loopback
from papershell.orchestration.azure.run_handle import FINAL_STATES, RunHandle
from papershell.orchestration.azure.sdk import asking
from papershell.orchestration.errors import OrchestrationError
from papershell.orchestration.loopback.command_lines import command_lines
from papershell.orchestration.loopback.inputs import Input, InputError, prepare
from tests.orchestration.conftest import log_of, served


def processes_of(run_id: str) -> list[psutil.Process]:
    """Return the living processes that carry a run's id."""

    def belongs(process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and process.environ().get("AZUREML_RUN_ID") == run_id
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


def wait_until(condition, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_service_that_does_not_answer_in_time_is_ended(tmp_path):
    with pytest.raises(
        OrchestrationError, match=r"did not answer within 0 seconds and was ended; .* try again"
    ):
        loopback.start(tmp_path / "w", timeout_s=0)
    assert not [p for p in psutil.Process().children() if str(tmp_path / "w") in p.cmdline()]
    assert loopback.find(tmp_path / "w") is None


@pytest.mark.parametrize(
    ("script", "state", "says"),
    [
        ("print('fine')", "Completed", None),
        ("import sys; print('bye'); sys.exit(3)", "Failed", "exit code 3; the end of its log:\nbye"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Failed", "signal SIGKILL"),
        ("1 / 0", "Failed", "ZeroDivisionError: division by zero"),
    ],
    ids=["completed", "exit code", "signal", "traceback"],
)  # fmt: skip
def test_exit_codes_become_states(script, state, says, submit_script):
    handle = RunHandle(submit_script(script))
    seen: list[str] = []
    assert handle.wait(20, show=seen.append) == state
    assert seen[-1] == state and set(seen) <= {"Queued", "Preparing", "Running", "Finalizing", *FINAL_STATES}
    assert (says or "") in (handle.failure() or "")


ESCAPING = """
    import os, signal, subprocess, sys, time
    hang = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    subprocess.Popen([sys.executable, "-c", hang], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    # It has no parent, no session, no variable and no open file of the run.
    escaped = f"import os, time; os.fork() and os._exit(0); os.setsid(); open({os.getcwd()!r} + '/escaped', 'w')" \\
              ".write(str(os.getpid())); time.sleep(600)"
    subprocess.run([sys.executable, "-c", escaped], env={}, cwd="/", start_new_session=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
"""


def escaped_process(root: Path, run_id: str) -> psutil.Process:
    """Wait until a run of `ESCAPING` has all its processes; return the one that no record leads to."""
    note = root / "runs" / run_id / "code" / "escaped"
    wait_until(lambda: note.exists() and note.read_text() and len(processes_of(run_id)) >= 4)
    return psutil.Process(int(note.read_text()))


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_run_that_forks_and_hangs_is_ended_whole(submit_script, root):
    """A child in the group, one that ignores SIGTERM, an orphan, and one that cleaned its environment."""
    run = submit_script(ESCAPING + "    time.sleep(600)")
    handle = RunHandle(run)
    mine = [escaped_process(root, run.id), *processes_of(run.id)]
    assert mine[0] not in mine[1:] and len(mine) >= 5
    handle.cancel()
    assert handle.wait(20) == "Canceled"
    assert not any(is_alive(process) for process in mine)


def test_what_a_completed_run_left_behind_is_ended(submit_script, root):
    run = submit_script(ESCAPING + "    time.sleep(1)")
    escaped = escaped_process(root, run.id)
    assert RunHandle(run).wait(20) == "Completed"
    assert processes_of(run.id) == [] and not is_alive(escaped)


def test_a_time_limit_ends_the_run(submit_script):
    handle = RunHandle(submit_script("import time; time.sleep(600)", max_run_duration_seconds=1))
    assert handle.wait(20) == "Canceled"
    assert "its time limit of 1 seconds" in handle.failure()


def test_a_queued_run_is_canceled_without_ever_starting(tmp_path, home):
    with served(tmp_path / "w", "--slots", "1"):
        first, second = (_submit(tmp_path, "import time; time.sleep(600)") for _ in range(2))
        wait_until(lambda: first.status() == "Running")
        assert second.status() == "Queued"
        second.cancel()
        assert second.status() == "Canceled"
        first.cancel()
        assert first.wait(20) == "Canceled"
        assert not (tmp_path / "w" / "runs" / second.id).exists()


def _submit(tmp_path: Path, script: str) -> RunHandle:
    from azureml.core import Environment, Experiment, ScriptRunConfig

    workspace = loopback.connect(tmp_path / "w")
    (tmp_path / "s").mkdir(exist_ok=True)
    (tmp_path / "s" / "train.py").write_text(script)
    config = ScriptRunConfig(str(tmp_path / "s"), script="train.py", environment=Environment("probe"))
    config.run_config.target = "c1"
    return RunHandle(Experiment(workspace, "restart").submit(config))


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_restart_in_the_middle_of_a_run_loses_nothing(how, tmp_path, home):
    root = tmp_path / "w"
    with served(root):
        _restart_in_the_middle(how, root, tmp_path)


def _restart_in_the_middle(how: str, root: Path, tmp_path: Path) -> None:
    address = loopback.start(root)
    handle = _submit(
        tmp_path,
        dedent(ESCAPING) + "from azureml.core import Run; r = Run.get_context(); r.log('x', 1); r.flush();"
        "r.child_run('fold'); print('up'); import time; time.sleep(600)",
    )
    escaped = escaped_process(root, handle.id)
    wait_until(lambda: b"up" in log_of(root, handle).read_bytes() if log_of(root, handle).exists() else False)
    if how == "killed":
        psutil.Process(address.pid).kill()
        wait_until(lambda: not psutil.pid_exists(address.pid) or _zombie(address.pid))
    else:
        loopback.stop(root)
    again = loopback.start(root)
    assert again.url == address.url and again.pid != address.pid
    assert handle.status() == "Failed" and "loopback service" in handle.failure()
    assert handle.metrics() == {"x": 1}
    wait_until(lambda: processes_of(handle.id) == [] and not is_alive(escaped))
    (child,) = handle.run.get_children()
    assert child.get_status() == "Canceled" and "was ended" in str(child.get_details()["error"])
    collected: list[bytes] = []
    handle.follow(collected.append, 20)
    assert b"".join(collected) == b"up\n"
    assert _submit(tmp_path, "print('next')").wait(20) == "Completed"


def _zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_binary_output_and_a_long_log(submit_script, root):
    """The log is passed on byte for byte, in pieces: 60 MB, none of it text."""
    run = submit_script("""
        import sys
        block = bytes(range(256)) * 4096
        for _ in range(60):
            sys.stdout.buffer.write(block)
    """)
    sizes: list[int] = []
    total, first = 0, b""

    def take(chunk: bytes) -> None:
        nonlocal total, first
        sizes.append(len(chunk))
        first = first or chunk[:256]
        total += len(chunk)

    assert RunHandle(run).follow(take, 60) == "Completed"
    assert total == 60 << 20 == log_of(root, run).stat().st_size
    assert first == bytes(range(256)) and max(sizes) <= 1 << 20


def test_the_in_job_variables(submit_script, root):
    run = submit_script(
        "import os, sys; print(sys.executable); print(*sorted(k for k in os.environ if 'AZUREML' in k))",
        arguments=[],
    )
    assert RunHandle(run).wait(20) == "Completed"
    interpreter, names = log_of(root, run).read_text().splitlines()
    assert Path(interpreter).resolve() == Path(os.sys.executable).resolve()
    assert {
        "AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME",
        "AZUREML_ARM_PROJECT_NAME", "AZUREML_EXPERIMENT_ID", "AZUREML_RUN_ID", "AZUREML_WORKSPACE_ID",
        "AZUREML_RUN_TOKEN", "AZUREML_RUN_TOKEN_EXPIRY", "AZUREML_SERVICE_ENDPOINT",
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT",
    } <= set(names.split())  # fmt: skip


def test_a_script_that_does_not_flush_loses_no_metric(submit_script):
    """As on Azure, where the job's driver waits for what the client's threads still hold."""
    text = "from azureml.core import Run; run = Run.get_context(); run.log('number', {}); {}"
    ends = ("", "import sys; sys.exit(0)", "raise SystemExit")
    runs = [submit_script(text.format(number, end)) for number, end in enumerate(ends)]
    for number, run in enumerate(runs):
        assert RunHandle(run).wait(30) == "Completed"
        assert run.get_metrics() == {"number": number}


@pytest.mark.slow
def test_fifty_runs_at_once_all_complete_with_their_own_metrics(submit_script):
    text = "from azureml.core import Run; Run.get_context().log('number', {})"
    runs = [submit_script(text.format(number)) for number in range(50)]
    assert [RunHandle(run).wait(250) for run in runs] == ["Completed"] * 50
    assert [RunHandle(run).metrics() for run in runs] == [{"number": number} for number in range(50)]


def test_a_run_does_not_see_this_machines_secrets(tmp_path, home, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with served(tmp_path / "w") as root:
        handle = _submit(tmp_path, "import os; print([os.environ.get(k) for k in ('AZURE_CLIENT_SECRET', "
                         "'OMP_NUM_THREADS')])")  # fmt: skip
        assert handle.wait(20) == "Completed"
        assert log_of(root, handle).read_text() == "[None, '1']\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "DatasetConsumptionConfig:a DatasetConsumptionConfig:ab $AZUREML_DATAREFERENCE_a",
            ["A B", "AB", "R"],
        ),
        ("'x y' $HOME", ["x y", "home"]),
    ],
)
def test_data_takes_the_place_of_its_name_whatever_the_path(line, words):
    data = [
        Input("DatasetConsumptionConfig:a", "a", "A B"), Input("$AZUREML_DATAREFERENCE_a", "r", "R"),
        Input("DatasetConsumptionConfig:ab", "ab", "AB"),
    ]  # fmt: skip
    script = "import sys; print(sys.argv[1:])"
    ((*shell, text),) = command_lines({"command": f'python -c "{script}" {line}'}, data, 0)
    printed = subprocess.run(
        [*shell, text], capture_output=True, text=True, env=os.environ | {"HOME": "home"}
    )
    assert printed.stdout.strip() == str(words)
    ((_, *arguments),) = command_lines({"script": "t.py", "arguments": line.split(" ")}, data, 0)
    assert arguments[0] == "t.py" and len(arguments) == 1 + len(line.split(" "))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("d/", {"a.gz", "deep/b.gz", "c.txt"}), ("d", {"a.gz", "deep/b.gz", "c.txt"}), ("d/a.gz", {"a.gz"}),
        ("d/*.gz", {"a.gz"}), ("d/**/*.gz", {"a.gz", "deep/b.gz"}), ("d/**", {"a.gz", "deep/b.gz", "c.txt"}),
        ("d/?.txt", {"c.txt"}), ("e", {"x"}), ("", {"d/a.gz", "d/deep/b.gz", "d/c.txt", "e/x"}),
        ("d/[a].gz", set()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["mount", "download"])
def test_paths_of_a_datastore(mode, pattern, found, tmp_path):
    for name in ("d/a.gz", "d/deep/b.gz", "d/c.txt", "e/x"):
        path = tmp_path / "blobs" / "azureml-blobstore" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    reference = {"dataStoreName": "workspaceblobstore", "pathOnDataStore": pattern, "mode": mode}
    try:
        (item,) = prepare({"dataReferences": {"r": reference}}, None, tmp_path / "blobs", tmp_path / "in")
    except InputError as error:
        assert not found and "there is no file at" in str(error)
        return
    folder = Path(item.value)
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert set(files) == found
    assert all(path.is_symlink() == (mode == "mount") for path in files.values())


@pytest.mark.parametrize("name", ["../x", "/tmp/x", ""])
def test_an_input_with_a_hostile_name_leads_nowhere(name, tmp_path):
    reference = {"dataStoreName": "workspaceblobstore", "pathOnDataStore": "d", "mode": "download"}
    with pytest.raises(http.BadRequest):
        prepare({"dataReferences": {name: reference}}, None, tmp_path, tmp_path / "in")


def test_a_run_sees_its_own_environment_variables(submit_script, root):
    from azureml.core.runconfig import RunConfiguration

    configuration = RunConfiguration()
    configuration.environment_variables = {"COLOUR": "blue"}
    configuration.target = "c1"
    run = submit_script(
        "import os; print(os.environ['COLOUR'])", run_config=configuration, compute_target=None
    )
    assert RunHandle(run).wait(20) == "Completed"
    assert log_of(root, run).read_text() == "blue\n"


GATHER = """
    import os, torch.distributed as dist
    dist.init_process_group("gloo")
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, (dist.get_rank(), os.environ["LOCAL_RANK"], os.environ["GROUP_RANK"]))
    print(sorted(everyone))
    dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("settings", "per_node", "world"),
    [
        pytest.param(
            {}, 2, "[(0, '0', '0'), (1, '1', '0'), (2, '0', '1'), (3, '1', '1')]", marks=pytest.mark.slow
        ),
        ({"command": "python train.py"}, 1, "[(0, '0', '0'), (1, '0', '1')]"),
    ],
    ids=["script", "command"],
)
def test_two_nodes_run_under_torchrun(settings, per_node, world, submit_script, root):
    pytest.importorskip("torch")
    from azureml.core.runconfig import PyTorchConfiguration

    distributed = PyTorchConfiguration("Gloo", process_count=2 * per_node, node_count=2)
    run = submit_script(GATHER, distributed_job_config=distributed, **settings)
    handle = RunHandle(run)
    assert handle.wait(90) == "Completed", handle.failure()
    for rank in range(2):
        assert log_of(root, run, f"std_log_process_{rank:02}.txt").read_text().count(world) == per_node
    collected: list[bytes] = []
    handle.follow(collected.append, 20)
    assert world.encode() in b"".join(collected)


def test_one_failed_node_ends_the_others(submit_script):
    pytest.importorskip("torch")
    from azureml.core.runconfig import PyTorchConfiguration

    run = submit_script(
        "import os, sys, time; sys.exit(5) if os.environ['RANK'] == '1' else time.sleep(600)",
        distributed_job_config=PyTorchConfiguration("Gloo", process_count=2, node_count=2),
    )
    handle = RunHandle(run)
    assert handle.wait(60) == "Failed"
    assert "node 1 ended with exit code 1" in handle.failure()
    assert processes_of(run.id) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("mpi", "several nodes run here under PyTorchConfiguration only"),
        ("uneven", "3 processes cannot be spread evenly over 2 nodes"),
    ],
)
def test_what_cannot_run_here_fails_with_a_sentence(settings, says, submit_script):
    from azureml.core.runconfig import MpiConfiguration, PyTorchConfiguration

    config = {
        "mpi": MpiConfiguration(process_count_per_node=1, node_count=2),
        "uneven": PyTorchConfiguration("Gloo", process_count=3, node_count=2),
    }[settings]
    handle = RunHandle(submit_script("print(1)", distributed_job_config=config))
    assert handle.wait(20) == "Failed" and says in handle.failure()


def test_an_unknown_cluster_is_one_sentence(submit_script):
    with (
        pytest.raises(OrchestrationError, match="there is no cluster 'nowhere' in this workspace; create it"),
        asking("submit"),
    ):
        submit_script("print(1)", compute_target="nowhere")


def test_a_job_finds_its_blobs_through_any_shell(submit_script):
    run = submit_script(
        "from azureml.core import Run; Run.get_context().upload_file('own.py', __file__)",
        command=["sh", "-c", "'sh -c \"python train.py\"'"],
    )
    handle = RunHandle(run)
    assert handle.wait(30) == "Completed", handle.failure()
    assert "own.py" in handle.files()


def test_links_in_outputs_are_not_followed(submit_script):
    run = submit_script("""
        import os
        os.symlink("/etc/passwd", "outputs/passwd")
        os.symlink("/etc", "outputs/etc")
        open("outputs/own.txt", "w").write("mine")
    """)
    handle = RunHandle(run)
    assert handle.wait(20) == "Completed"
    assert [name for name in handle.files() if name.startswith("outputs/")] == ["outputs/own.txt"]


def test_a_service_that_nobody_uses_ends(tmp_path, home):
    loopback.start(tmp_path / "w", arguments=("--idle-seconds", "0.5"))
    wait_until(lambda: not (tmp_path / "w" / "service.json").exists(), 10)
    assert loopback.find(tmp_path / "w") is None


def test_one_service_per_folder(tmp_path, home):
    import subprocess
    import sys

    address = loopback.start(tmp_path / "w")
    try:
        assert loopback.start(tmp_path / "w") == address
        second = subprocess.run(
            [sys.executable, "-m", "papershell.orchestration.loopback", str(tmp_path / "w")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert second.returncode == 1 and "is served by another process" in second.stderr
    finally:
        loopback.stop(tmp_path / "w")
    assert loopback.find(tmp_path / "w") is None
