"""``papershell workspace run``: scripts and notebooks that were written for Azure, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from papershell.orchestration import loopback
from papershell.orchestration.loopback.names import SCOPE

RUN = (sys.executable, "-m", "papershell.orchestration.cli", "workspace", "run", "--root")
# The process that runs a script is to be as Python makes it; the second folder on the path is the tests' own.
DESCRIBE = """
    import json, os, sys
    print(json.dumps([sys.argv, __name__, __file__, sys.path, sorted(os.environ), sys.flags.isolated]))
    sys.exit(7)
"""


def script(folder: Path, text: str, name: str = "control.py") -> Path:
    (folder / name).write_text(dedent(text))
    return folder / name


def started(root: Path, *words: object, **settings) -> subprocess.CompletedProcess:
    return subprocess.run([*RUN, str(root), *map(str, words)], capture_output=True, text=True, **settings)


@pytest.mark.parametrize(
    "as_module", [pytest.param(False, id="script"), pytest.param(True, id="module", marks=pytest.mark.slow)]
)
def test_a_script_is_started_as_python_starts_it(as_module, root, tmp_path):
    script(tmp_path, DESCRIBE)
    words = ["-m", "control"] if as_module else ["control.py"]
    words += ["--debug", "--regularization", "0.5", "0.8", "--help"]
    here = started(root, *words, cwd=tmp_path)
    alone = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path)
    assert here.returncode == alone.returncode == 7, here.stderr
    mine, its = json.loads(here.stdout), json.loads(alone.stdout)
    packages = mine[3].pop()
    assert packages.endswith("incontrol/packages") and packages not in its[3]
    assert set(mine.pop(4)) - set(its.pop(4)) <= {"PAPERSHELL_CONTROL", "PYTHONPATH"}
    assert mine == its


def test_every_way_to_a_workspace_and_a_sign_in_leads_here_also_in_children(root, tmp_path):
    script(
        tmp_path,
        """
        import subprocess, sys
        from azureml.core import Workspace
        from azureml.core.authentication import InteractiveLoginAuthentication, ServicePrincipalAuthentication
        principal = ServicePrincipalAuthentication("tenant", "client", "secret")
        mine = {"subscription_id": "mine", "resource_group": "mine"}
        found = [
            Workspace.from_config(), Workspace.from_config("there-is-none.json", auth=principal),
            Workspace.get("mine", **mine), Workspace("a", "b", "c", auth=InteractiveLoginAuthentication(force=True)),
            Workspace.create("mine", location="eastus", **mine), *Workspace.list("mine").popitem()[1],
        ]
        print({(w.name, w.location, w.get_default_datastore().name) for w in found})
        if sys.argv[1:] == []:
            subprocess.run([sys.executable, __file__, "child"], check=True)
        """,
    )
    done = started(root, tmp_path / "control.py", cwd=tmp_path)
    assert done.stdout == "{('loopback', 'here', 'workspaceblobstore')}\n" * 2, done.stderr


def test_the_service_is_started_and_ended_with_the_script(root, tmp_path):
    ask = script(tmp_path, "print('loopback')")
    assert started(tmp_path / "w", ask).stdout == "loopback\n"
    assert loopback.find(tmp_path / "w") is None
    assert started(root, ask).stdout == "loopback\n" and loopback.find(root)  # it was served before


def test_runs_that_a_script_leaves_keep_their_service_until_they_end(root, tmp_path):
    (tmp_path / "source").mkdir()
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)"
    script(tmp_path / "source", wait, "train.py")
    submit = script(
        tmp_path,
        """
        import os
        from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
        from azureml.core.compute import AmlCompute, ComputeTarget
        ws = Workspace.from_config()
        settings = AmlCompute.provisioning_configuration("STANDARD_D2_V2", max_nodes=1)
        cluster = ComputeTarget.create(ws, "c1", settings)
        config = ScriptRunConfig(
            "source", "train.py", [os.path.abspath("go")], compute_target=cluster, environment=Environment("e")
        )
        print(Experiment(ws, "left").submit(config).id)
        """,
    )
    done = started(tmp_path / "w", submit, cwd=tmp_path)
    assert "1 run(s) go on" in done.stderr and loopback.find(tmp_path / "w")
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 60
    while (tmp_path / "w" / "service.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert loopback.find(tmp_path / "w") is None
    with loopback.in_use(tmp_path / "w"):
        from azureml.core import Run

        assert Run.get(loopback.connect(tmp_path / "w"), done.stdout.strip()).get_status() == "Completed"
    loopback.connect(root)  # the process's client goes back to the package's workspace


@pytest.mark.parametrize("name", ["control.py", "control.ipynb"])
def test_ctrl_c_ends_the_script_which_may_tidy_up(name, root, tmp_path):
    text = """
        import time
        try:
            print("begun", flush=True)
            open("begun", "w").close()
            time.sleep(600)
        finally:
            open("ended", "w").close()
    """
    if name.endswith(".py"):
        script(tmp_path, text)
    else:
        write_notebook(tmp_path / name, dedent(text))
    process = subprocess.Popen(
        [*RUN, str(root), name], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "begun").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and (tmp_path / "ended").exists(), errors
    if name.endswith(".ipynb"):
        assert outputs(tmp_path / name)[0][0]["text"] == "begun\n"


def write_notebook(path: Path, *cells: str) -> None:
    from nbformat import v4, write

    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# Title"), *map(v4.new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "azureml_py38", "display_name": "Azure ML"}
    write(notebook, path)


def outputs(path: Path) -> list:
    from nbformat import read

    return [cell.outputs for cell in read(path, 4).cells if cell.cell_type == "code"]


def test_a_notebook_keeps_its_outputs_also_after_an_error(root, tmp_path):
    path = tmp_path / "control.ipynb"
    write_notebook(
        path,
        "from azureml.core import Workspace",
        "print(Workspace.from_config().name)",
        "6 * 7",
        "1 / 0",
        "8",
    )
    done = started(root, path)
    assert (done.returncode, done.stdout) == (1, "loopback\n") and "ZeroDivisionError" in done.stderr
    imported, printed, value, failed, never = outputs(path)
    assert imported == never == [] and printed[0]["text"] == "loopback\n"
    assert value[0]["data"]["text/plain"] == "42" and failed[0]["ename"] == "ZeroDivisionError"
    assert os.listdir(tmp_path) == ["control.ipynb"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.py"], "there is no missing.py"),
        (["-m"], "-m names no module"),
        (["n.ipynb", "--flag"], "a notebook takes no flags; leave out --flag"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(words, says, run, project, root):
    (project / "n.ipynb").write_text("")
    code, _, errors = run("workspace", "run", "--root", root, *words)
    assert code == 1 and errors.startswith(f"error: {says}") and errors.count("\n") == 1


def test_a_file_that_is_no_notebook_stays_as_it_was(root, tmp_path):
    (tmp_path / "n.ipynb").write_text('{"cells": 3}')
    done = started(root, "n.ipynb", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: n.ipynb is no notebook")
    assert done.stderr.count("\n") == 1 and (tmp_path / "n.ipynb").read_text() == '{"cells": 3}'


def test_stand_ins_and_the_machines_own_sitecustomize(root, tmp_path, mnist_folder):
    (tmp_path / "site").mkdir()
    script(tmp_path / "site", "import builtins; builtins.own = 'kept'", "sitecustomize.py")
    script(
        tmp_path,
        """
        import os, sitecustomize
        from azureml.core import Workspace, Experiment
        from azureml.opendatasets import MNIST
        from azureml.widgets import RunDetails
        print(own, os.path.basename(os.path.dirname(sitecustomize.__file__)))
        run = Experiment(Workspace.from_config(), "widgets").start_logging(outputs=None, snapshot_directory=None)
        run.complete()
        RunDetails(run).show()
        print(run.get_portal_url())
        dataset = MNIST.get_file_dataset()
        print([os.path.basename(path) for path in sorted(dataset.download("mnist", overwrite=True))])
        """,
    )
    path = os.pathsep.join(filter(None, (str(tmp_path / "site"), os.environ.get("PYTHONPATH"))))
    variables = os.environ | {"PYTHONPATH": path, "PAPERSHELL_DATA": str(mnist_folder.resolve())}
    done = started(root, "control.py", cwd=tmp_path, env=variables)
    first, shown, url, *_, files = done.stdout.splitlines()
    assert first == "kept site" and url in shown, done.stderr
    assert json.loads(files.replace("'", '"')) == [
        "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
        "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    ]  # fmt: skip
    for name in json.loads(files.replace("'", '"')):
        (original,) = mnist_folder.rglob(name)
        assert (tmp_path / "mnist" / name).read_bytes() == original.read_bytes()


def test_addresses_of_other_workspaces_and_paths_that_climb_stay_as_they_are(tmp_path):
    from papershell.orchestration.loopback.process_hooks import local_dataflow

    mine = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/d"
    folders = {mine: str(tmp_path)}
    for address in (
        f"{mine.replace('/w/', '/x/')}/paths/a",
        f"{mine}/paths/a/../../b",
        "https://host/a",
        mine,
    ):
        text = json.dumps({"paths": [{"pattern": address}]})  # YAML too
        assert local_dataflow(text, folders) == text
    both = json.dumps({"paths": [{"pattern": f"{mine}/paths/a"}, {"pattern": "https://host/a"}]})
    assert local_dataflow(both, folders) == both
    moved = local_dataflow(json.dumps({"paths": [{"file": f"{mine.upper()}/paths/a%20b"}]}), folders)
    assert f"file://{tmp_path}/a b" in moved and "azureml" not in moved


def test_a_local_run_takes_the_clients_copy_of_the_source_and_no_other_folder(submit_script, root, tmp_path):
    import tempfile

    import requests

    run = submit_script("print('begun'); raise SystemExit(3)", compute_target="local")
    run.wait_for_completion(raise_on_error=False)
    assert run.get_status() == "Failed" and "exit code 3" in run.get_details()["error"]["error"]["message"]
    assert not (Path(tempfile.gettempdir()) / "azureml_runs" / run.id).exists()
    assert {path.name for path in (root / "runs" / run.id / "code").iterdir()} == {
        "train.py",
        "outputs",
        "logs",
    }
    address = loopback.find(root)
    (tmp_path / run.id).mkdir()
    for folder in (tmp_path, tmp_path / run.id):  # another name; a run that was started before
        answer = requests.post(
            f"{address.url}/execution/v1.0{SCOPE}/localruns/{run.id}",
            json={"folder": str(folder)}, headers={"Authorization": f"Bearer {address.token}"}, timeout=60,
        )  # fmt: skip
        assert answer.status_code in (400, 409) and folder.exists()
