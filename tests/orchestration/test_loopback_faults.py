"""A service that fails: every fault ends in a retry that succeeds, or in one sentence."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from papershell.orchestration import loopback
from papershell.orchestration.azure.sdk import asking
from papershell.orchestration.azure.uploads import upload_folder
from papershell.orchestration.errors import OrchestrationError
from papershell.orchestration.loopback.faults import KINDS, Fault
from tests.orchestration.conftest import served

SLOW = ("500", "503", "nothing")  # the client tries these again for 20 seconds

SCRIPT = """
from azureml.core import Run
run = Run.get_context(allow_offline=False)
for step in range(3):
    run.log("loss", step)
open("outputs/model.bin", "wb").write(bytes(1000))
run.upload_file("big.bin", "outputs/model.bin")
run.complete()
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage client waits 15, 18 and 24 seconds before it tries again; here it need not."""
    from azureml._vendor.azure_storage.blob._shared.policies import ExponentialRetry

    monkeypatch.setattr(ExponentialRetry, "get_backoff_time", lambda self, settings: 0.05)


@pytest.fixture
def faulty(tmp_path: Path, home):
    """Start a workspace with faults; return the client's workspace."""
    with ExitStack() as stack:

        def start(*faults: str):
            flags = [word for fault in faults for word in ("--fault", fault)]
            return loopback.connect(stack.enter_context(served(tmp_path / "w", *flags)))

        yield start


def submitted(workspace, folder: Path):
    from azureml.core import Environment, Experiment, ScriptRunConfig

    from papershell.orchestration.azure.run_handle import RunHandle

    (folder / "s").mkdir()
    (folder / "s" / "train.py").write_text(SCRIPT)
    config = ScriptRunConfig(
        str(folder / "s"), script="train.py", compute_target="c1", environment=Environment("probe")
    )
    with asking("submit"):
        return RunHandle(Experiment(workspace, "faults").submit(config))


@pytest.mark.parametrize(
    "faults",
    [
        ("503:2@/history/", "500:2@/content/", "429:1@/execution/"),
        ("nothing:2@/history/", "nothing:1@/metric/"),
        ("503:1@/metric/", "500:1@/artifact/", "nothing:1@/artifact/"),
        ("cut:2@/blobs/snapshots", "503:1@/blobs/"),
        pytest.param(("cut:1@/blobs/azureml", "half:1@/blobs/azureml"), marks=pytest.mark.slow),
    ],
    ids=["statuses", "no answer", "while logging", "cut uploads", "artifacts"],
)
def test_passing_faults_are_overcome(faults, faulty, tmp_path):
    """The client tries again, and nothing is logged twice or half."""
    handle = submitted(faulty(*faults), tmp_path)
    assert handle.wait(60) == "Completed", handle.failure()
    assert handle.metrics() == {"loss": [0, 1, 2]}
    (path,) = handle.download(tmp_path / "out", prefix="big")
    assert path.read_bytes() == bytes(1000)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in KINDS if kind != "cut"]
)
def test_lasting_faults_end_in_one_sentence(kind, faulty, tmp_path):
    workspace = faulty(f"{kind}:10000@/history/")
    start = time.monotonic()
    with pytest.raises(OrchestrationError) as caught:
        submitted(workspace, tmp_path)
    assert time.monotonic() - start < 60
    assert str(caught.value).startswith("could not submit: ") and "\n" not in str(caught.value)


def test_an_upload_that_is_always_cut_is_not_believed(faulty, tmp_path):
    workspace = faulty("cut:10000@/blobs/azureml-blobstore")
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "a.gz").write_bytes(bytes(5000))
    with pytest.raises(OrchestrationError):
        upload_folder(workspace, tmp_path / "mnist", "mnist")
    container = tmp_path / "w" / "blobs" / "azureml-blobstore"
    assert [p for p in container.rglob("*") if p.is_file()] == []


def test_a_snapshot_that_did_not_arrive_is_refused(faulty, tmp_path):
    workspace = faulty("cut:10000@/blobs/snapshots")
    with pytest.raises(OrchestrationError, match="could not submit"):
        submitted(workspace, tmp_path)


@pytest.mark.parametrize("header", ["Content-MD5", "Content-SHA256"])
def test_a_damaged_upload_is_refused(header, root, workspace):
    """The content's digest travels with it, as the client sends it for snapshots and artifacts."""
    store = workspace.get_default_datastore()
    address = f"{loopback.find(root).url}/blobs/{store.container_name}/damaged.bin?{store.sas_token}"
    answer = requests.put(address, data=b"content", headers={header: "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert answer.status_code == 400 and f"another {header}" in answer.json()["error"]["message"]
    assert not (root / "blobs" / "azureml-blobstore" / "damaged.bin").exists()


def test_an_expired_token_is_one_sentence(root, home):
    import json

    from papershell.orchestration.loopback.client import open_workspace
    from papershell.orchestration.loopback.tokens import Tokens

    address = loopback.find(root)
    key = json.loads((root / "identity.json").read_text())["key"]
    with pytest.raises(OrchestrationError, match="the token has expired"), asking("open the workspace"):
        open_workspace(address.url, Tokens(key).mint("owner", lifetime_s=-60), root)


@given(st.sampled_from(KINDS), st.none() | st.integers(0, 99), st.none() | st.sampled_from(["/metric/", "/"]))
def test_faults_are_written_as_they_are_read(kind, count, path):
    text = kind + ("" if count is None else f":{count}") + ("" if path is None else f"@{path}")
    assert Fault.parse(text) == Fault(kind, 1 if count is None else count, path or "/")


@pytest.mark.parametrize("text", ["", "404", "503:x", "503:-1", "slow@/x"])
def test_bad_faults_are_refused(text):
    with pytest.raises(ValueError, match="is not KIND"):
        Fault.parse(text)
