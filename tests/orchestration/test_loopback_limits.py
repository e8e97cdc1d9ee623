"""Bounds and concurrency: every registration is kept, and each excess gets its answer."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from papershell.orchestration import loopback
from papershell.orchestration.errors import OrchestrationError
from papershell.orchestration.loopback import limits
from papershell.orchestration.loopback.names import SCOPE
from papershell.orchestration.loopback.server import Server
from papershell.orchestration.loopback.service import Options, Service
from papershell.orchestration.loopback.state import Identity
from papershell.orchestration.loopback.tls import server_context
from papershell.orchestration.loopback.tokens import Tokens

MODELS = f"/modelmanagement/v1.0{SCOPE}/models"
HISTORY = f"/history/v1.0{SCOPE}"


@pytest.fixture
def address(root: Path):
    return loopback.find(root)


@pytest.fixture
def call(address) -> Callable[..., requests.Response]:
    """Ask the service as its owner; a wrong answer is read as JSON by the test."""

    def call(method: str, path: str, **settings) -> requests.Response:
        headers = {"Authorization": f"Bearer {address.token}"} | settings.pop("headers", {})
        return requests.request(method, address.url + path, headers=headers, **settings)

    return call


@pytest.fixture
def container(root: Path, address) -> str:
    """The address of the default container, and the signature that follows a blob's name."""
    key = json.loads((root / "identity.json").read_text())["key"]
    return f"{address.url}/blobs/azureml-blobstore/{{}}?sig={Tokens(key).signature('azureml-blobstore')}"


def at_once(work: Callable[[int], object], count: int, threads: int = 20) -> list:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(count)))


def unfinished(root: Path) -> list[Path]:
    return list(root.rglob(".part-*"))


# Registrations -------------------------------------------------------------------------------------


def test_models_registered_at_once_are_all_kept(call):
    def register(number: int) -> int:
        return call("POST", MODELS, json={"name": "crowd", "description": str(number)}).json()["version"]

    assert sorted(at_once(register, 100)) == list(range(1, 101))
    kept = call("GET", MODELS, params={"name": "crowd"}).json()["value"]
    assert {model["description"] for model in kept} == {str(number) for number in range(100)}


def test_models_registered_at_once_by_the_client(workspace, tmp_path, monkeypatch):
    from azureml.core import Model

    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.bin").write_bytes(b"m")

    def register(number: int) -> int:
        return Model.register(workspace, "m.bin", "client-crowd", tags={"n": str(number)}).version

    assert sorted(at_once(register, 8, threads=4)) == list(range(1, 9))
    assert {m.tags["n"] for m in Model.list(workspace, "client-crowd")} == set(map(str, range(8)))


def test_environments_data_sets_clusters_and_runs_made_at_once_are_all_kept(call):
    def make(number: int) -> tuple[str, str, int, str, int]:
        environment = call(
            "PUT", f"/environment/v1.0{SCOPE}/environments/crowd", json={"python": {"n": number}}
        )
        dataset = call(
            "POST", f"/dataset/v1.0{SCOPE}/datasets", params={"ifExistsOk": "true"},
            json={"name": "crowd", "latest": {"dataflow": str(number)}},
        )  # fmt: skip
        size = {"properties": {"properties": {"vmSize": "STANDARD_D2s_v5"}}}
        cluster = call("PUT", f"{SCOPE}/computes/crowd-{number}", json=size)
        experiment = call("POST", f"{HISTORY}/experiments/crowd")
        run = call("PATCH", f"{HISTORY}/experiments/crowd/runs/crowd-{number}", json={})
        return (
            environment.json()["version"], dataset.json()["latest"]["versionId"], cluster.status_code,
            experiment.json()["experimentId"], run.json()["runNumber"],
        )  # fmt: skip

    environments, datasets, clusters, experiments, runs = zip(*at_once(make, 40), strict=True)
    every = {str(number) for number in range(1, 41)}
    assert set(environments) == set(datasets) == every and set(clusters) == {201}
    assert len(set(experiments)) == 1 and len(set(runs)) == 40
    names = {c["name"] for c in call("GET", f"{SCOPE}/computes").json()["value"]}
    assert {f"crowd-{number}" for number in range(40)} <= names


def test_a_request_that_fails_halfway_changes_nothing(call):
    call("PATCH", f"{HISTORY}/experiments/half/runs/half", json={})
    good, bad = {"name": "loss", "value": [{"metricId": "1"}]}, {"value": []}
    answer = call("POST", f"/metric/v2.0{SCOPE}/runs/half/batch", json={"values": [good, bad]})
    assert answer.status_code == 400
    assert call("POST", f"/metric/v2.0{SCOPE}/runs/half/list").json() == {"value": []}


def test_names_that_begin_alike_stay_apart(call):
    call("PATCH", f"{HISTORY}/experiments/apart/runs/apart", json={})
    values = [{"name": name, "value": [{"metricId": name, "data": {}}]} for name in ("train", "train/loss")]
    call("POST", f"/metric/v2.0{SCOPE}/runs/apart/batch", json={"values": values})
    for name in ("train", "train/loss"):
        full = call("POST", f"/metric/v2.0{SCOPE}/runs/apart/full", json={"metricName": name}).json()
        assert [value["metricId"] for value in full["value"]] == [name]
    for name in ("a/b", "a:1", "", "x" * 256, 5, None, ["a"], "\n"):
        answer = call("POST", MODELS, json={"name": name})
        assert answer.status_code == 400 and "does not fit" in answer.json()["error"]["message"]


# Size and depth ------------------------------------------------------------------------------------


def raw(url: str, head: str, body: bytes = b"") -> bytes:
    """Send bytes as they are; return the whole answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(address):
    head = (
        f"POST {MODELS} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {address.token}\r\n"
        f"Content-Length: {1 << 30}\r\n\r\n"
    )
    answer = raw(address.url, head)
    assert answer.split()[1] == b"413" and f"longer than {limits.BODY_BYTES} bytes".encode() in answer


def test_a_body_without_a_length_is_bounded_too(address, call):
    before = psutil.Process(address.pid).memory_info().rss
    pieces = (b" " * (1 << 20) for _ in range(200))
    answer = call("POST", MODELS, data=pieces)
    assert answer.status_code == 413
    assert psutil.Process(address.pid).memory_info().rss - before < 10 * limits.BODY_BYTES


@pytest.mark.parametrize("levels", [limits.BODY_LEVELS + 1, 900, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_deeply_nested_json_is_one_sentence(levels, brackets, call):
    text = brackets[:-1] * levels + "1" + brackets[-1] * levels
    answer = call("POST", MODELS, data='{"name": ' + text + "}")
    assert answer.status_code == 400
    assert f"over {limits.BODY_LEVELS} levels" in answer.json()["error"]["message"]


def test_json_within_the_bound_is_taken(call):
    text = "[" * (limits.BODY_LEVELS - 1) + "]" * (limits.BODY_LEVELS - 1)
    assert call("POST", MODELS, data='{"name": "deep", "description": ' + text + "}").status_code == 200


@pytest.mark.parametrize(
    "name",
    ["a/" * 1500 + "b", "a/" * limits.NAME_LEVELS + "b", "n" * (limits.NAME_PART_BYTES + 1), "n" * 1025,
     "é" * 128, "a\x01b", "a%0Ab", "a%ED%A0%80%5C", ".part-x"],
    ids=["1,500 levels", "too many levels", "long part", "long", "long in bytes", "control", "newline",
         "backslash", "unfinished"],
)  # fmt: skip
def test_odd_names_are_one_sentence_and_leave_nothing(name, container, root):
    before = set((root / "blobs").rglob("*"))
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        answer = requests.request(method, container.format(name), data=b"x" if method == "PUT" else None)
        assert 400 <= answer.status_code < 500, (method, answer.text)
        if method != "HEAD":
            assert answer.json()["error"]["message"]
    assert set((root / "blobs").rglob("*")) == before


def test_a_name_is_a_file_or_a_folder_not_both(container, root):
    assert requests.put(container.format("both/one"), data=b"1").status_code == 201
    for name in ("both", "both/one/two", "both/one/two/three"):
        answer = requests.put(container.format(name), data=b"2")
        assert answer.status_code == 409 and "both a file and a folder" in answer.json()["error"]["message"]
    assert requests.get(container.format("both/one")).content == b"1" and unfinished(root) == []


@pytest.mark.parametrize("text", ["(" * 3000, "a eq b" + " and a eq b" * 3000, "x" * 100_000])
def test_long_filters_are_refused(text, call):
    call("POST", f"{HISTORY}/experiments/filtered")
    answer = call("POST", f"{HISTORY}/experiments/filtered/runs:query", json={"filter": text})
    assert answer.status_code == 400 and answer.json()["error"]["message"]


@pytest.mark.parametrize("container", ["..", ".", "other", "azureml-blobstore%2F.."])
def test_there_are_no_other_containers(container, address, root):
    key = json.loads((root / "identity.json").read_text())["key"]
    signature = Tokens(key).signature(container.replace("%2F", "/"))
    for name in ("", "/identity.json", "/x"):
        for method in ("GET", "PUT"):
            head = f"{method} /blobs/{container}{name}?comp=list&sig={signature} HTTP/1.1\r\nHost: h\r\n"
            answer = raw(address.url, head + "Content-Length: 1\r\n\r\n", b"x")
            assert answer.split()[1] in (b"400", b"403", b"404", b"405"), answer
            assert key.encode() not in answer
    assert not (root / "x").exists() and not (root / "blobs" / "other").exists()


@pytest.mark.parametrize(
    "head",
    ["GET http://[ HTTP/1.1", "GET //[/x HTTP/1.1", "BREW / HTTP/1.1", "GET / HTTP/9.9", "\0\0\0", "GET",
     "GET /" + "a" * 70_000 + " HTTP/1.1", "GET /" + "a/" * 1500 + " HTTP/1.1"],
    ids=["address", "host", "method", "version", "zeros", "word", "line", "levels"],
)  # fmt: skip
def test_odd_heads_are_refused_in_words(head, address):
    answer = raw(address.url, head + "\r\nHost: h\r\n\r\n")
    # Before HTTP/1.0 an answer had no status line; the standard library's has words in either case.
    status = re.match(rb"HTTP/1.. (\d+)|.*?Error code: (\d+)", answer, re.DOTALL)
    assert status and (status[1] or status[2]) in (b"400", b"404", b"405", b"414", b"505"), answer[:200]


@pytest.mark.parametrize("body", [b"zz\r\n", b"-5\r\nabc\r\n", b"5\r\nab", b"2\r\nabXX0\r\n\r\n"])
def test_odd_pieces_are_refused_and_leave_nothing(body, container, root, address):
    path = container.format("pieces").removeprefix(address.url)
    head = f"PUT {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    host, port = address.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] == b"400", answer
    assert unfinished(root) == [] and not (root / "blobs/azureml-blobstore/pieces").exists()


def test_a_deleted_key_or_a_removed_file_is_never_a_500(call, container):
    for path in (f"{MODELS}/none:1", f"/modelmanagement/v1.0{SCOPE}/assets/none", "/operations/none",
                 f"/content/v2.0{SCOPE}/snapshots/none", f"{HISTORY}/runs/none", f"{HISTORY}/experiments/none",
                 f"{SCOPE}/computes/none"):  # fmt: skip
        answer = call("GET", path)
        assert answer.status_code == 404 and "there is no " in answer.json()["error"]["message"]
    assert requests.get(container.format("none")).status_code == 404


# Connections ---------------------------------------------------------------------------------------


@contextmanager
def server(folder: Path, **bounds) -> Iterator[Server]:
    """Serve a workspace in this process, within other bounds."""
    service = Service(folder, Identity(str(uuid.uuid4()), "k" * 64, 0), Options())
    server = Server(service, server_context(folder / "tls"), 0, **bounds)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        service.close()


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: h\r\n"])
def test_a_connection_that_sends_no_request_is_closed(begun, tmp_path):
    with (
        server(tmp_path, head_s=0.2) as served,
        socket.create_connection(("127.0.0.1", served.server_port), timeout=30) as connection,
    ):
        connection.sendall(begun)
        assert b"200" not in b"".join(iter(lambda: connection.recv(4096), b""))
        wait_for(lambda: served.waiting == {})


def test_too_many_connections_are_refused_until_others_end(tmp_path):
    with server(tmp_path, connections=3, head_s=60) as served:

        def ask() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=30)
            connection.request("GET", "/loopback/health")
            return connection.getresponse().status

        held = [socket.create_connection(("127.0.0.1", served.server_port)) for _ in range(3)]
        wait_for(lambda: len(served.waiting) == 3)
        assert ask() == 429
        for connection in held:
            connection.close()
        wait_for(lambda: not served.waiting)
        wait_for(lambda: ask() == 401)


def wait_for(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(1000):
        if condition():
            return
        done.wait(0.03)
    raise AssertionError("it did not happen")


# The folder ----------------------------------------------------------------------------------------


def test_a_wide_folder_is_tightened(tmp_path, home):
    folder = tmp_path / "w"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    loopback.start(str(folder))  # a string will do
    assert loopback.find(str(folder)) and loopback.connect(str(folder)).name == "loopback"
    loopback.stop(str(folder))
    folder.chmod(0o777)
    loopback.start(folder)
    loopback.stop(folder)
    modes = Counter(path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*")))
    assert set(modes) == {0}


def test_a_wide_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(OrchestrationError, match=r"other users may open .* chmod 700"):
        loopback.start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_what_a_killed_service_was_writing_is_removed(tmp_path):
    left = tmp_path / "blobs" / "azureml" / ".part-0123"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with server(tmp_path):
        assert not left.exists()


def test_the_umask_is_given_back(tmp_path):
    before = os.umask(0)
    os.umask(before)
    (tmp_path / "identity.json").write_text("damaged")
    with pytest.raises(OrchestrationError, match="is damaged"):
        loopback.serve(tmp_path)
    after = os.umask(before)
    assert after == before
