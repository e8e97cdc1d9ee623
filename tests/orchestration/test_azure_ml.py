"""From a `TrainJob` to a finished run and its model, through the genuine client."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papershell.orchestration import loopback
from papershell.orchestration.azure.cluster import (
    cluster_state,
    delete_cluster,
    ensure_cluster,
    find_cluster,
    free_cores,
    require_cluster,
)
from papershell.orchestration.azure.job import Cluster, TrainJob
from papershell.orchestration.azure.run_handle import RunHandle, find_run
from papershell.orchestration.azure.sdk import asking, sdk_version
from papershell.orchestration.azure.sign_in import authentication, check_config
from papershell.orchestration.azure.submission import request, submit
from papershell.orchestration.azure.uploads import register_dataset, upload_folder
from papershell.orchestration.azure.workspace_records import WorkspaceRecords
from papershell.orchestration.errors import OrchestrationError
from papershell.orchestration.workspaces import open_workspace

PROBE = '''
"""A script of one's own."""
import argparse
from pathlib import Path
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", type=Path)
parser.add_argument("--note", default="")
args = parser.parse_args()
files = sorted(p.relative_to(args.data_folder).as_posix() for p in args.data_folder.rglob("*") if p.is_file())
print("note", args.note, "files", files)
run = Run.get_context(allow_offline=False)
run.log("files", len(files))
Path("outputs/model.txt").write_text("weights")
run.complete()
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source folder with one script."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "probe.py").write_text(PROBE)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "mnist"
    (folder / "deep").mkdir(parents=True)
    (folder / "train.gz").write_bytes(bytes(2000))
    (folder / "deep" / "test.gz").write_bytes(b"x")
    return folder


def job(source: Path, data: Path | str | None, **fields) -> TrainJob:
    settings = {
        "environment": environment_file(source.parent), "cluster": Cluster("cpucluster", "STANDARD_D4s_v5"),
        "script": "probe.py", "source": str(source), "experiment": "probes",
    }  # fmt: skip
    return TrainJob(**settings | {"data": None if data is None else str(data)} | fields)


def environment_file(tmp_path: Path) -> str:
    path = tmp_path / "environment-cpu.yml"
    path.write_text("dependencies: [python=3.11, {pip: [azureml-core]}]\n")
    return str(path)


@pytest.mark.parametrize("mode", ["download", "mount"])
def test_submit_wait_metrics_files_register(mode, workspace, source, data, tmp_path):
    shown: list[str] = []
    described = job(source, data, arguments=("--note", "a 'b' $HOME"), data_mode=mode)
    handle = submit(described, workspace, show=shown.append)
    log = b""

    def take(chunk: bytes) -> None:
        nonlocal log
        log += chunk

    assert handle.follow(take, 60) == "Completed", handle.failure()
    assert log.decode() == "note a 'b' $HOME files ['deep/test.gz', 'train.gz']\n"
    assert handle.metrics() == {"files": 2}
    assert handle.portal_url.startswith("http")
    (model,) = handle.download(tmp_path / "out", prefix="outputs/")
    assert model == tmp_path / "out" / "outputs" / "model.txt" and model.read_text() == "weights"
    registered = handle.register("probe", "outputs/model.txt", tags={"mode": mode})
    assert registered.tags == {"mode": mode}
    assert any("of 2 files, " in line for line in shown)
    assert any("dataset mnist-dataset, version" in line for line in shown)
    assert TrainJob.from_json(handle.run.get_tags()["job"]) == described
    assert find_run(workspace, handle.id).metrics() == {"files": 2}
    records = WorkspaceRecords(workspace)
    (found,) = [record for record in records.list_runs() if record.id == handle.id]
    assert (found.name, found.experiment, found.status) == ("probe.py", "probes", "Completed")
    assert found.metrics == {"files": 2.0} and "outputs/model.txt" in records.get_run(handle.id).files


def test_a_registered_dataset_is_used_by_its_name(workspace, source, data, tmp_path):
    upload_folder(workspace, data, "elsewhere")
    register_dataset(workspace, "named", ["elsewhere/"])
    described = job(source, "dataset:named")
    handle = submit(described, workspace, show=lambda line: None)
    assert handle.wait(60) == "Completed", handle.failure()
    with pytest.raises(OrchestrationError, match="could not find dataset nameless: Cannot find dataset"):
        submit(job(source, "dataset:nameless"), workspace)


@pytest.mark.slow
def test_several_nodes_through_the_job(workspace, source, data, tmp_path):
    pytest.importorskip("torch")
    described = job(source, data, nodes=2)
    handle = submit(described, workspace, show=lambda line: None)
    assert handle.wait(90) == "Completed", handle.failure()
    assert len([name for name in handle.files() if "std_log_process_" in name]) == 2


def puts(root: Path, target: str) -> int:
    """Return how many uploads below ``target`` the service has answered."""
    lines = (root / "access.log").read_text().splitlines()
    return len([line for line in lines if "PUT" in line and f"/blobs/azureml-blobstore/{target}/" in line])


def test_only_files_that_differ_are_sent(workspace, data, root, tmp_path):
    """The second upload of the same data sends no byte; one of other content sends that file alone."""
    upload_folder(workspace, data, "again")
    assert puts(root, "again") == 2
    assert upload_folder(workspace, data, "again") == {} and puts(root, "again") == 2
    (data / "deep" / "test.gz").write_bytes(b"y")  # of the same size
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.gz").write_bytes(b"more")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    assert upload_folder(workspace, data, "again") == {"deep/test.gz": 1, "linked/more.gz": 4}
    assert puts(root, "again") == 4
    there = root / "blobs" / "azureml-blobstore" / "again"
    assert (there / "deep" / "test.gz").read_bytes() == b"y"
    assert (there / "linked" / "more.gz").read_bytes() == b"more" and not (there / "linked").is_symlink()
    (there / "train.gz").write_bytes(b"x" * 2000)  # changed on the other side
    assert upload_folder(workspace, data, "again") == {"train.gz": 2000}
    assert (there / "train.gz").read_bytes() == bytes(2000)


def test_a_file_of_many_requests_is_sent_once(workspace, tmp_path, root, monkeypatch):
    """A file that arrives in blocks has an MD5, too, for the client sends it."""
    store = workspace.get_default_datastore()
    monkeypatch.setattr(store.blob_service._config, "max_single_put_size", 1000)
    monkeypatch.setattr(store.blob_service._config, "max_block_size", 1000)
    monkeypatch.setattr(type(workspace), "get_default_datastore", lambda self: store)
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "x").write_bytes(bytes(range(250)) * 10)
    assert upload_folder(workspace, tmp_path / "large", "large") == {"x": 2500}
    assert puts(root, "large") == 4  # three blocks and their list
    assert upload_folder(workspace, tmp_path / "large", "large") == {} and puts(root, "large") == 4


def test_an_upload_that_went_wrong_unnoticed_is_noticed(workspace, data, monkeypatch):
    from azureml._vendor.azure_storage.blob import ContainerClient

    monkeypatch.setattr(ContainerClient, "upload_blob", lambda *args, **settings: None)
    with pytest.raises(OrchestrationError, match=r"2 of 2 files of .* did not arrive whole"):
        upload_folder(workspace, data, "lost")


def test_the_request_needs_no_network_and_is_what_is_sent(workspace, source, data, tmp_path, root):
    described = job(source, data, nodes=1, time_limit_min=2)
    planned = request(described)
    json.dumps(planned)
    handle = submit(described, workspace, show=lambda line: None)
    sent = handle.run.get_details()["runDefinition"]
    kept = {"data", "environment"}  # filled in with ids by the submission
    assert {k: v for k, v in planned["run_configuration"].items() if k not in kept} == {
        k: v for k, v in sent.items() if k not in kept
    }
    assert planned["data"]["bytes"] == {"deep/test.gz": 1, "train.gz": 2000}
    assert planned["snapshot"]["files"] == 1
    assert planned["run_configuration"]["maxRunDurationSeconds"] == 120
    handle.cancel()


def test_clusters_attach_or_create_and_take_their_time(tmp_path, home):
    loopback.start(tmp_path / "w", arguments=("--provision-seconds", "0.6"))
    try:
        workspace = loopback.connect(tmp_path / "w")
        cluster = Cluster("gpu-cluster", "STANDARD_NC6")
        shown: list[str] = []
        ensure_cluster(workspace, cluster, show=shown.append)
        assert shown == ["cluster gpu-cluster: Creating", "cluster gpu-cluster: Succeeded"]
        ensure_cluster(workspace, Cluster("gpu-cluster", "STANDARD_D4s_v5"), show=shown.append)
        assert shown[2] == "cluster gpu-cluster exists already, with STANDARD_NC6 instead of STANDARD_D4s_v5"
        state = cluster_state(workspace, "gpu-cluster")
        assert (state["vm size"], state["state"], state["max nodes"]) == ("STANDARD_NC6", "Succeeded", 4)
        delete_cluster(workspace, "gpu-cluster")
        assert find_cluster(workspace, "gpu-cluster") is None
        with pytest.raises(OrchestrationError, match=r"still Creating after 0 seconds"):
            ensure_cluster(workspace, cluster, timeout_s=0, show=lambda line: None)
    finally:
        loopback.stop(tmp_path / "w")


def test_what_is_not_there_is_one_sentence(workspace):
    with pytest.raises(OrchestrationError, match="has no cluster 'nowhere'; it has c1"):
        require_cluster(workspace, "nowhere")
    with pytest.raises(OrchestrationError, match="could not find run nothing: there is no run 'nothing'"):
        find_run(workspace, "nothing")
    with pytest.raises(
        OrchestrationError, match=r"could not create cluster c9: .*VM size STANDARD_X is unknown"
    ):
        ensure_cluster(workspace, Cluster("c9", "STANDARD_X"))


def test_quota_is_read(workspace):
    assert free_cores(workspace)["standardNCASv3_T4Family"] == 100


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, r"there is no .*config.json; download it"),
        ("{", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        ("[]", "lacks subscription_id, resource_group, workspace_name"),
        ('{"subscription_id": "1", "resource_group": ""}', "lacks resource_group, workspace_name"),
    ],
)
def test_a_wrong_config_is_one_sentence(text, says, tmp_path):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(OrchestrationError, match=says):
        open_workspace(str(tmp_path))


@given(st.binary(max_size=200) | st.text(max_size=100).map(json.dumps).map(str.encode))
def test_any_bytes_are_a_config_or_one_sentence(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_bytes(content)
        with pytest.raises(OrchestrationError) as caught:
            check_config(path)
        assert "\n" not in str(caught.value)


def test_no_credentials_is_one_sentence(tmp_path):
    config = {"subscription_id": "1", "resource_group": "g", "workspace_name": "w"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(OrchestrationError, match="no credentials for Azure: set AZURE_TENANT_ID"):
        open_workspace(str(tmp_path))
    with pytest.raises(OrchestrationError, match="a service principal needs AZURE_CLIENT_SECRET"):
        authentication("service-principal", {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"})
    with pytest.raises(OrchestrationError, match="authentication 'magic' is unknown"):
        authentication("magic", {})


def test_authentication_is_chosen_by_what_is_there():
    from azureml.core import authentication as sdk

    principal = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}
    assert isinstance(authentication("auto", principal), sdk.ServicePrincipalAuthentication)
    with (
        pytest.raises(OrchestrationError, match="azure-cli package is not installed"),
        asking("sign in"),
    ):
        authentication("cli", principal)


def test_a_run_with_hostile_file_names_is_not_downloaded(workspace, tmp_path):
    class Hostile:
        id = "hostile"

        def __init__(self, name: str) -> None:
            self.name = name

        def get_file_names(self) -> list[str]:
            return [self.name]

    for name in ("../x", "/etc/x", "a/../../x", "a\\..\\x"):
        with pytest.raises(OrchestrationError, match="leads out of"):
            RunHandle(Hostile(name)).download(tmp_path)


def test_the_sdk_does_not_print_its_deprecations(workspace, data, capfd, caplog):
    upload_folder(workspace, data, "quiet")
    assert capfd.readouterr().out == "" and not caplog.records
    assert logging.root.manager.disable == logging.NOTSET


def test_the_sdk_version_is_told():
    assert sdk_version().startswith("1.")
