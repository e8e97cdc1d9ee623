"""The genuine azureml-core client against the loopback workspace: no part of the SDK is mocked."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from tests.orchestration.conftest import log_of

LOGGING_SCRIPT = """
    import argparse, os
    from azureml.core import Run
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float)
    rate = parser.parse_args().rate
    run = Run.get_context(allow_offline=False)
    for step in range(3):
        run.log("loss", rate / (step + 1))
    run.log("accuracy", 0.92)
    run.log_list("rates", [0.5, 0.8])
    run.log_row("epoch", number=1, loss=0.25)
    run.log_table("table", {"x": [1, 2], "y": [3.5, 4.5]})
    matrix = {"class_labels": ["0", "1"], "matrix": [[9, 1], [0, 8]]}
    described = {"schema_type": "confusion_matrix", "schema_version": "1.0.0", "data": matrix}
    run.log_confusion_matrix("confusion", described)
    os.makedirs("logs", exist_ok=True)
    open("outputs/model.bin", "wb").write(b"weights")
    open("logs/own.txt", "w").write("mine")
    run.upload_file("extra/source.py", __file__)
    run.tag("colour", "blue")
    run.set_tags({"size": "small"})
    run.add_properties({"kind": "probe"})
    child = run.child_run("fold 0")
    child.log("fold accuracy", 0.9)
    child.complete()
    print("rate", rate)
    run.complete()
"""


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A run that used everything that a script can do, waited for by the client itself."""
    from textwrap import dedent

    from azureml.core import Environment, Experiment, Run, ScriptRunConfig

    from papershell.orchestration import loopback

    workspace = loopback.connect(root)
    folder = tmp_path_factory.mktemp("source")
    (folder / "train.py").write_text(dedent(LOGGING_SCRIPT))
    config = ScriptRunConfig(
        str(folder), script="train.py", arguments=["--rate", 0.5], compute_target="c1",
        environment=Environment("probe"),
    )  # fmt: skip
    run = Experiment(workspace, "everything").submit(config, tags={"who": "test"})
    Run._WAIT_COMPLETION_POLLING_INTERVAL_MIN = 0.05
    details = run.wait_for_completion()
    return run, details


def test_the_run_completed_with_its_record(finished):
    run, details = finished
    assert details["status"] == run.get_status() == "Completed"
    assert details["startTimeUtc"] <= details["endTimeUtc"]
    assert {"who": "test", "colour": "blue", "size": "small"}.items() <= run.get_tags().items()
    assert run.get_properties()["kind"] == "probe"
    assert run.get_portal_url().startswith("http://127.0.0.1")


def test_metrics(finished):
    run, _ = finished
    metrics = run.get_metrics()
    assert metrics.pop("confusion").startswith("aml://artifactId/ExperimentRun/")
    assert metrics == {
        "loss": [0.5, 0.25, 0.5 / 3],
        "accuracy": 0.92,
        "rates": [0.5, 0.8],
        "epoch": {"number": 1, "loss": 0.25},
        "table": {"x": [1, 2], "y": [3.5, 4.5]},
    }
    assert run.get_metrics(name="accuracy") == {"accuracy": 0.92}


def test_files(finished, tmp_path):
    run, _ = finished
    assert set(run.get_file_names()) >= {
        "outputs/model.bin", "logs/own.txt", "extra/source.py", "user_logs/std_log.txt"
    }  # fmt: skip
    run.download_file("outputs/model.bin", str(tmp_path / "model.bin"))
    assert (tmp_path / "model.bin").read_bytes() == b"weights"
    run.download_files(prefix="logs", output_directory=str(tmp_path / "all"))
    assert (tmp_path / "all" / "logs" / "own.txt").read_text() == "mine"


def test_the_log_is_streamed_by_the_client(submit_script, capsys):
    run = submit_script("import time; print('begun'); time.sleep(0.5); print('done')")
    run.wait_for_completion(show_output=True)
    assert "begun\ndone\n" in capsys.readouterr().out


def test_children(finished):
    run, _ = finished
    (child,) = run.get_children()
    assert child.get_status() == "Completed" and child.parent.id == run.id
    assert child.get_metrics() == {"fold accuracy": 0.9}


def test_models(finished, workspace, tmp_path, monkeypatch):
    from azureml.core import Model

    run, _ = finished
    first = run.register_model("sklearn_mnist", model_path="outputs/model.bin", tags={"rate": "0.5"})
    second = run.register_model("sklearn_mnist", model_path="outputs")
    assert (first.name, first.id, first.version) == ("sklearn_mnist", "sklearn_mnist:1", 1)
    assert second.version == 2 and Model(workspace, "sklearn_mnist").version == 2
    assert [m.version for m in Model.list(workspace, name="sklearn_mnist")] == [2, 1]
    assert [m.version for m in Model.list(workspace, tags=[["rate", "0.5"]])] == [1]
    path = Model(workspace, "sklearn_mnist", version=1).download(str(tmp_path))
    assert Path(path).read_bytes() == b"weights"
    monkeypatch.chdir(tmp_path)  # the client registers nothing from elsewhere
    local = tmp_path / "local.bin"
    local.write_bytes(b"local")
    third = Model.register(workspace, model_path=str(local), model_name="sklearn_mnist")
    assert third.version == 3 and Path(third.download(str(tmp_path / "d"))).read_bytes() == b"local"


def test_runs_are_listed_and_filtered(finished, workspace, submit_script):
    from azureml.core import Experiment, Run

    run, _ = finished
    experiment = Experiment(workspace, "everything")
    assert [r.id for r in experiment.get_runs()] == [run.id]
    assert [r.id for r in experiment.get_runs(tags={"colour": "blue"})] == [run.id]
    assert list(experiment.get_runs(tags={"colour": "red"})) == []
    assert [r.id for r in experiment.get_runs(properties={"kind": "probe"}, type="azureml.scriptrun")] == [
        run.id
    ]
    assert list(experiment.get_runs(type="azureml.other")) == []
    assert len(list(experiment.get_runs(include_children=True))) == 2
    assert Run.get(workspace, run.id).get_metrics(name="accuracy") == {"accuracy": 0.92}
    assert "everything" in {e.name for e in Experiment.list(workspace)}


def test_an_interactive_run(workspace, tmp_path):
    from azureml.core import Experiment

    run = Experiment(workspace, "notebook").start_logging(snapshot_directory=None, outputs=False)
    run.log("x", 1.5)
    (tmp_path / "note.txt").write_text("hello")
    run.upload_file("note.txt", str(tmp_path / "note.txt"))
    assert run.get_status() == "Running"
    run.complete()
    assert run.get_status() == "Completed" and run.get_metrics() == {"x": 1.5}
    failed = Experiment(workspace, "notebook").start_logging(snapshot_directory=None, outputs=False)
    failed.fail(error_details="no luck")
    assert failed.get_status() == "Failed"


def test_environments(workspace):
    from azureml.core import Environment

    environment = Environment("versions")
    assert environment.register(workspace).version == "1"
    assert environment.register(workspace).version == "1"
    environment.docker.base_image = "mcr.microsoft.com/azureml/openmpi5.0-ubuntu24.04"
    assert environment.register(workspace).version == "2"
    assert Environment.get(workspace, "versions").docker.base_image == environment.docker.base_image
    assert Environment.get(workspace, "versions", version="1").docker.base_image != "x"
    assert "versions" in Environment.list(workspace)


def test_an_unchanged_folder_is_not_sent_again(workspace, root, tmp_path):
    from azureml.core import Environment, Experiment, ScriptRunConfig

    folder = tmp_path / "source"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "part.py").write_text("WORD = 'first'")
    (folder / "train.py").write_text("from package.part import WORD; print(WORD)")

    def submit() -> str:
        config = ScriptRunConfig(str(folder), script="train.py", environment=Environment("probe"))
        config.run_config.target = "c1"
        run = Experiment(workspace, "snapshots").submit(config)
        run.wait_for_completion()
        return (root / "runs" / run.id / "code" / "package" / "part.py").read_text()

    def blobs() -> int:
        return len(list((root / "blobs" / "snapshots").glob("*")))

    before = blobs()
    assert submit() == "WORD = 'first'" and blobs() == before + 2
    assert submit() == "WORD = 'first'" and blobs() == before + 2
    (folder / "package" / "part.py").write_text("WORD = 'other'")
    assert submit() == "WORD = 'other'" and blobs() == before + 3


def test_the_source_of_a_run_is_given_back(submit_script, tmp_path):
    run = submit_script("print('mine')")
    with zipfile.ZipFile(run.restore_snapshot(path=str(tmp_path))) as whole:
        assert {name: whole.read(name) for name in whole.namelist()} == {"train.py": b"print('mine')"}
    run.wait_for_completion()


def test_the_working_folders_of_ended_runs_are_removed(submit_script, root, tmp_path, run):
    ended, under_way = (submit_script(f"import time; time.sleep({seconds})") for seconds in (0, 600))
    ended.wait_for_completion()
    while under_way.get_status() != "Running":
        time.sleep(0.05)
    code, printed, _ = run("workspace", "clean", "--root", root)
    assert code == 0 and printed.startswith("freed ")
    assert [path.name for path in (root / "runs").iterdir()] == [under_way.id]
    assert "user_logs/std_log.txt" in ended.get_file_names()
    ended.restore_snapshot(path=str(tmp_path))
    under_way.cancel()


def test_datastore_and_data_reference(workspace, tmp_path, root):
    store = workspace.get_default_datastore()
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "a.gz").write_bytes(b"A" * 1000)
    (data / "deep" / "b.gz").write_bytes(os.urandom(5 << 20))
    store.upload(str(data), target_path="referenced", overwrite=True, show_progress=False)
    assert store.download(str(tmp_path / "back"), prefix="referenced", show_progress=False) == 2
    for name in ("a.gz", "deep/b.gz"):
        assert (tmp_path / "back" / "referenced" / name).read_bytes() == (data / name).read_bytes()
    from azureml.core.runconfig import DataReferenceConfiguration

    reference = store.path("referenced").as_mount()
    from azureml.core import Environment, Experiment, ScriptRunConfig

    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text("import os, sys; print(sorted(os.listdir(sys.argv[1])))")
    config = ScriptRunConfig(
        str(source), script="train.py", arguments=[str(reference)], environment=Environment("probe")
    )
    config.run_config.target = "c1"
    name = reference.data_reference_name
    config.run_config.data_references[name] = DataReferenceConfiguration(
        datastore_name=store.name, path_on_datastore="referenced"
    )
    run = Experiment(workspace, "references").submit(config)
    run.wait_for_completion()
    assert log_of(root, run).read_text() == "['a.gz', 'deep']\n"


@pytest.mark.parametrize("mode", ["as_mount", "as_download"])
def test_file_datasets(mode, workspace, submit_script, tmp_path, root):
    from azureml.core import Dataset

    store = workspace.get_default_datastore()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.gz").write_bytes(b"X")
    store.upload(str(tmp_path / "data"), target_path=f"set-{mode}", overwrite=True, show_progress=False)
    dataset = Dataset.File.from_files((store, f"set-{mode}/"), validate=False)
    dataset = dataset.register(workspace, f"{mode}-dataset", create_new_version=True)
    found = Dataset.get_by_name(workspace, f"{mode}-dataset")
    assert (found.name, found.version, found.id) == (dataset.name, 1, dataset.id)
    assert f"{mode}-dataset" in Dataset.get_all(workspace)
    run = submit_script(
        """
        import os, sys
        from azureml.core import Run
        folder = sys.argv[1]
        assert folder == os.environ["images"] == Run.get_context().input_datasets["images"]
        print(os.listdir(folder), open(os.path.join(folder, "x.gz")).read())
        """,
        arguments=[getattr(found.as_named_input("images"), mode)()],
    )
    run.wait_for_completion()
    assert log_of(root, run).read_text() == "['x.gz'] X\n"
    (used,) = run.get_details()["inputDatasets"]
    assert used["dataset"].id == dataset.id and used["dataset"].name == dataset.name
    assert used["consumptionDetails"] == {
        "type": "RunInput", "inputName": "images", "mechanism": mode.removeprefix("as_").capitalize()
    }  # fmt: skip


def test_a_dataset_that_was_never_registered(workspace, submit_script, root, tmp_path):
    from azureml.core import Dataset

    store = workspace.get_default_datastore()
    (tmp_path / "data").mkdir()
    for name in ("a.gz", "b.txt"):
        (tmp_path / "data" / name).write_bytes(b"X")
    store.upload(str(tmp_path / "data"), target_path="anonymous", overwrite=True, show_progress=False)
    dataset = Dataset.File.from_files((store, "anonymous/*.gz"), validate=False)
    run = submit_script(
        "import os, sys; print(os.listdir(sys.argv[1]))",
        arguments=[dataset.as_named_input("images").as_download()],
    )
    run.wait_for_completion()
    assert log_of(root, run).read_text() == "['a.gz']\n"
    (used,) = run.get_details()["inputDatasets"]
    assert used["dataset"].name is None and used["consumptionDetails"]["mechanism"] == "Download"


def test_a_dataset_of_web_addresses(workspace, submit_script, root, tmp_path):
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from azureml.core import Dataset

    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "labels.gz").write_bytes(b"\x1f\x8b labels")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/labels.gz"
    dataset = Dataset.File.from_files([address], validate=False).register(workspace, "web-dataset")
    run = submit_script(
        "import sys; print(open(sys.argv[1] + '/labels.gz', 'rb').read())",
        arguments=[dataset.as_named_input("web").as_download()],
    )
    run.wait_for_completion()
    server.shutdown()
    assert "labels" in log_of(root, run).read_text()


@pytest.mark.filterwarnings("ignore")
def test_estimators_of_the_walk_throughs(workspace, tmp_path, root):
    """Users migrate from these: Estimator and SKLearn of azureml-train-core."""
    from azureml.core import Experiment
    from azureml.train.estimator import Estimator
    from azureml.train.sklearn import SKLearn

    (tmp_path / "train.py").write_text("import sys; print(sys.argv[1:])")
    store = workspace.get_default_datastore()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.gz").write_bytes(b"X")
    store.upload(str(tmp_path / "data"), target_path="est", overwrite=True, show_progress=False)
    for kind in (Estimator, SKLearn):
        estimator = kind(
            source_directory=str(tmp_path), entry_script="train.py", compute_target="c1",
            script_params={"--regularization": 0.8, "--data-folder": store.path("est").as_mount()},
        )  # fmt: skip
        run = Experiment(workspace, "estimators").submit(estimator)
        run.wait_for_completion()
        assert "'--regularization', '0.8', '--data-folder'" in log_of(root, run).read_text()


def test_clusters(workspace):
    from azureml.core.compute import AmlCompute, ComputeTarget
    from azureml.core.compute_target import ComputeTargetException

    with pytest.raises(ComputeTargetException, match="NotFound"):
        ComputeTarget(workspace, "gpu-cluster")
    settings = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4)
    cluster = ComputeTarget.create(workspace, "gpu-cluster", settings)
    cluster.wait_for_completion(show_output=False, min_node_count=None, timeout_in_minutes=1)
    status = cluster.get_status().serialize()
    assert status["vmSize"] == "STANDARD_NC6" and status["scaleSettings"]["maxNodeCount"] == 4
    assert "gpu-cluster" in workspace.compute_targets
    cluster.update(max_nodes=2)
    assert ComputeTarget(workspace, "gpu-cluster").get_status().scale_settings.maximum_node_count == 2
    assert "STANDARD_NC4as_T4_v3" in {size["name"] for size in AmlCompute.supported_vmsizes(workspace)}
    cluster.delete()
    with pytest.raises(ComputeTargetException):
        ComputeTarget(workspace, "gpu-cluster")
