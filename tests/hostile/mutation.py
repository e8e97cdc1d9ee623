"""Genuine requests of azureml-core, recorded, damaged at random and sent as bytes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from papershell.orchestration import loopback
from papershell.orchestration.loopback.names import SCOPE

TIMEOUT_S = 100  # above the service's own bounds: a silence this long is a finding

HOSTILE_VALUES: list[Any] = [
    None, True, 0, -1, 10**400, 1e308, float("nan"), "", "x", "\0", "\ud800", "../x", "/etc/passwd", "a" * 5000,
    [], {}, [[]], {"a": None}, "é" * 200, "\\", "a/b", "%s%n", "'; drop table documents; --", "\r\nX: y",
]  # fmt: skip
HOSTILE_TEXTS = ["", "..", "%2e%2e", "%00", "%0d%0aX:y", "a" * 300, "a" * 3000, "a/" * 1500, "//", "%ff%fe", "%", ":",
                 "\\", "[", "é", "%C3%A9" * 100, "*", "<x>", "?a=b", "0", "None"]  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """One request as it goes over the wire."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def encoded(self) -> bytes:
        """Return the request's bytes; a header ``Content-Length`` stays as it is."""
        target = self.path + ("?" + self.query if self.query else "")
        headers = {"host": ("Host", "h"), "content-length": ("Content-Length", str(len(self.body)))}
        headers |= {name.lower(): (name, value) for name, value in self.headers}
        lines = [
            f"{self.method} {target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.values()),
        ]
        return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + self.body


def send(port: int, request: bytes) -> int | None:
    """Send bytes, then the end of the stream; return the answer's status, or None without one."""
    answer = b""
    with (
        contextlib.suppress(ConnectionError),  # the service may close before all has been sent
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection,
    ):
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            answer += chunk
    status = re.match(
        rb"HTTP/1\.\d (?:100 Continue\r\n\r\nHTTP/1\.\d )*(\d+)|.*?Error code: (\d+)", answer, re.S
    )
    return int(status[1] or status[2]) if status else None


# Recording -----------------------------------------------------------------------------------------


@contextmanager
def recording() -> Iterator[list[Recorded]]:
    """Record all that `requests` sends in this process: the client sends by it only."""
    found: list[Recorded] = []
    genuine = requests.Session.send

    def send(self: requests.Session, request: requests.PreparedRequest, **settings: Any) -> requests.Response:
        address = urlsplit(str(request.url))
        blob = address.hostname != "127.0.0.1"
        body = request.body or b""
        if hasattr(body, "read"):
            content, _ = body.read(), body.seek(0)
        else:
            content = body.encode() if isinstance(body, str) else bytes(body)
        dropped = ("content-length", "connection", "accept-encoding", "transfer-encoding")
        headers = tuple((str(k), str(v)) for k, v in request.headers.items() if k.lower() not in dropped)
        path = ("/blobs" if blob else "") + address.path
        found.append(Recorded(str(request.method), path, address.query, headers, content))
        return genuine(self, request, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", send)
        yield found


def record_scenario(root: Path, folder: Path) -> list[Recorded]:
    """Let the genuine clients and a browser do a bit of everything; return their requests, of each kind only one."""
    workspace = loopback.connect(root)
    with recording() as found:
        _scenario(workspace, folder)
        if importlib.util.find_spec("mlflow"):
            _by_mlflow(root)
        _visits(root)
    kinds = {(r.method, re.sub(r"[0-9a-f-]{8,}|\d+", "#", r.path)): r for r in found}
    return list(kinds.values())


def _scenario(workspace: Any, folder: Path) -> None:
    from azureml.core import Dataset, Environment, Experiment, Model, ScriptRunConfig
    from azureml.core.compute import AmlCompute, ComputeTarget

    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(dedent("print(1)"))
    (folder / "data").mkdir()
    (folder / "data" / "x.gz").write_bytes(b"X" * 100)
    store = workspace.get_default_datastore()
    store.upload(str(folder / "data"), target_path="seed", overwrite=True, show_progress=False)
    dataset = Dataset.File.from_files((store, "seed/"), validate=False)
    dataset = dataset.register(workspace, "seed", create_new_version=True)
    environment = Environment("seed").register(workspace)
    config = ScriptRunConfig(
        str(folder / "code"), script="train.py", compute_target="c1", environment=environment,
        arguments=[dataset.as_named_input("images").as_mount()],
    )  # fmt: skip
    run = Experiment(workspace, "seed").submit(config, tags={"a": "b"})
    run.wait_for_completion()
    own = Experiment(workspace, "seed").start_logging(snapshot_directory=None, outputs=False)
    own.log("x", 1.5)
    own.log_list("xs", [1, 2])
    own.upload_file("x.gz", str(folder / "data" / "x.gz"))
    own.tag("a", "b")
    own.child_run("c").cancel()
    own.complete()
    own.get_metrics(), own.get_details(), own.get_file_names()
    own.download_file("x.gz", str(folder / "back"))
    model = own.register_model("seed", "x.gz")
    Model.list(workspace), model.download(str(folder / "model")), model.delete()
    list(Experiment(workspace, "seed").get_runs(tags={"a": "b"}))
    settings = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2s_v5", max_nodes=1)
    cluster = ComputeTarget.create(workspace, "seed", settings)
    cluster.update(max_nodes=2)
    cluster.delete()


def _by_mlflow(root: Path) -> None:
    """Log, read and search with MLflow's client, without azureml-mlflow, as a job does."""
    import mlflow

    address = loopback.find(root)
    assert address is not None
    before, os.environ["MLFLOW_TRACKING_TOKEN"] = mlflow.get_tracking_uri(), address.token
    mlflow.set_tracking_uri(f"{address.url}/mlflow/v2.0{SCOPE}")
    try:
        client = mlflow.MlflowClient()
        owner = client.create_experiment("mutated", tags={"a": "b"})
        run = client.create_run(owner, run_name="r").info.run_id
        client.log_metric(run, "m", 0.5, step=1)
        client.log_batch(run, [mlflow.entities.Metric("m", 1.5, 10, 2)], [mlflow.entities.Param("p", "1")])
        client.log_param(run, "q", 2), client.set_tag(run, "a", "b"), client.delete_tag(run, "a")
        client.log_text(run, "text", "notes/a.txt"), client.list_artifacts(run, "notes")
        mlflow.artifacts.load_text(client.get_run(run).info.artifact_uri + "/notes/a.txt")
        model = client.create_logged_model(owner, name="net", source_run_id=run)
        client.finalize_logged_model(model.model_id, "READY"), client.get_logged_model(model.model_id)
        client.create_registered_model("mutated")
        client.create_model_version("mutated", model.artifact_location, model_id=model.model_id)
        (
            client.get_model_version_download_uri("mutated", "1"),
            client.search_model_versions("name = 'mutated'"),
        )
        client.get_metric_history(run, "m"), client.set_terminated(run)
        client.search_runs([owner], "metrics.m > 1 and params.p = '1'", order_by=["metrics.m DESC"])
        client.search_experiments(), client.delete_run(run), client.restore_run(run)
    finally:
        mlflow.set_tracking_uri(before)
        del os.environ["MLFLOW_TRACKING_TOKEN"]


def _visits(root: Path) -> None:
    """Look at each page as a browser does that was let in."""
    link, session = loopback.page_link(root), requests.Session()
    base = link.partition("/open")[0]
    session.headers.update({"Accept": "text/html", "Host": urlsplit(base).netloc})
    session.get(link)
    runs = re.findall(r'name="run" value="([^"]+)"', session.get(base + "/").text)
    for path in ("experiments/seed", f"runs/{runs[0]}", "compare?run=" + "&run=".join(runs[:3]), "models", "datasets",
                 "clusters", f"runs/{runs[-1]}/files/user_logs/std_log.txt", "?page=2"):  # fmt: skip
        session.get(f"{base}/{path}", headers={"Range": "bytes=0-"})


# Damage --------------------------------------------------------------------------------------------


def damaged(request: Recorded, rng: random.Random) -> bytes:
    """Return the bytes of ``request`` after one to three changes, of which some leave it valid."""
    for _ in range(rng.randint(1, 3)):
        request = rng.choice((_body, _body, _bytes, _path, _path, _query, _method, _header))(request, rng)
    encoded = request.encoded()
    if rng.random() < 0.05:
        encoded = encoded[: rng.randrange(len(encoded))]
    return encoded


def _body(request: Recorded, rng: random.Random) -> Recorded:
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        return request
    places = list(_places(document))
    if not places or rng.random() < 0.1:
        levels = rng.choice((10, 150, 500, 5000))
        return replace(request, body=b'{"a":' * levels + b"1" + b"}" * levels)
    inside, key = rng.choice(places)
    if rng.random() < 0.2:
        del inside[key]
    else:
        inside[key] = rng.choice(HOSTILE_VALUES)
    return replace(request, body=json.dumps(document).encode())


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) of a JSON document."""
    if isinstance(document, (dict, list)):
        keys = list(document) if isinstance(document, dict) else range(len(document))
        for key in keys:
            yield document, key
            yield from _places(document[key])


def _bytes(request: Recorded, rng: random.Random) -> Recorded:
    body = bytearray(request.body)
    for _ in range(rng.randint(1, 5)):
        at = rng.randint(0, len(body))
        body[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 4))
    return replace(request, body=bytes(body))


def _path(request: Recorded, rng: random.Random) -> Recorded:
    parts = request.path.split("/")
    at = rng.randint(1, len(parts))
    parts[at : at + rng.randint(0, 1)] = [rng.choice(HOSTILE_TEXTS)]
    return replace(request, path="/".join(parts))


def _query(request: Recorded, rng: random.Random) -> Recorded:
    terms = request.query.split("&") if request.query else []
    name = rng.choice(["comp", "blockid", "runId", "versionId", "count", "tags", "prefix", "path", "sig"])
    terms[: rng.randint(0, 1)] = [f"{name}={rng.choice(['block', 'blocklist', 'list', *HOSTILE_TEXTS])}"]
    return replace(request, query="&".join(terms))


def _method(request: Recorded, rng: random.Random) -> Recorded:
    return replace(
        request, method=rng.choice(["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "BREW", "connect"])
    )


def _header(request: Recorded, rng: random.Random) -> Recorded:
    name = rng.choice(
        ["Content-Length", "Transfer-Encoding", "Range", "x-ms-range", "Content-MD5", "Content-Type", "Expect",
         "Authorization", "If-None-Match", "If-Range", "X-" + "a" * 1000]
    )  # fmt: skip
    value = rng.choice(
        [
            "chunked",
            "-1",
            "99",
            "1e9",
            "bytes=5-1",
            "bytes=0-0,2-",
            "100-continue",
            "Bearer x",
            "multipart/form-data; boundary=a",
        ]
    )
    headers = tuple(pair for pair in request.headers if pair[0].lower() != name.lower())
    return replace(request, headers=(*headers, (name, value)))
