"""Strangers and hostile clients get no answer of use, and files stay inside the folder."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import uuid
from pathlib import Path

import pytest
import requests
import werkzeug.exceptions as http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papershell.orchestration import loopback
from papershell.orchestration.loopback.names import BLOB_HOST, SCOPE
from papershell.orchestration.loopback.routes import ALL_ROUTES
from papershell.orchestration.loopback.stored_files import inside, regular_files, save
from papershell.orchestration.loopback.tokens import Tokens

HOSTILE = ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "", ".", "..", "a\\b", "C:x", "a\0b", "a/.."]


@pytest.fixture
def address(root: Path):
    return loopback.find(root)


@pytest.fixture
def owner(address):
    return {"Authorization": f"Bearer {address.token}"}


def every_route() -> list[tuple[str, str]]:
    """Each route as a request that would be valid but for the token."""

    def filled(path: str) -> str:
        path = re.sub(
            r"<any\('?([\w.]+)'?.*?\):\w+>", r"\1", path.replace("<scope:scope>", SCOPE.lstrip("/"))
        )
        return re.sub(r"<[^>]+>", "x", path)

    return [(route.method, filled(route.path)) for route in ALL_ROUTES]


@pytest.mark.parametrize("kind", ["none", "other", "expired", "unsigned", "basic"])
def test_no_route_answers_without_this_workspaces_token(kind, address, root):
    key = json.loads((root / "identity.json").read_text())["key"]
    unsigned = ".".join([*address.token.split(".")[:2], ""])
    headers = {
        "none": {},
        "other": {"Authorization": f"Bearer {Tokens('other key').mint('owner')}"},
        "expired": {"Authorization": f"Bearer {Tokens(key).mint('owner', lifetime_s=-60)}"},
        "unsigned": {"Authorization": f"Bearer {unsigned}"},
        "basic": {"Authorization": f"Basic {address.token}"},
    }[kind]
    routes = every_route()
    assert len(routes) > 80
    with requests.Session() as session:
        for method, path in routes:
            answer = session.request(method, address.url + path, headers=headers)
            assert answer.status_code in (401, 403), (method, path, answer.text)


def test_it_listens_on_this_machine_only(address):
    port = int(address.url.rpartition(":")[2])
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for host in others - {"127.0.0.1"}:
        if not host.startswith("127."):
            with pytest.raises(OSError):
                socket.create_connection((host, port), timeout=2)


@pytest.mark.parametrize(
    ("host", "token", "status"),
    [(BLOB_HOST, None, b"407"), (BLOB_HOST, "wrong", b"407"), ("example.org", "right", b"403")],
)
def test_the_tunnel_is_for_the_blob_host_and_the_owner(host, token, status, address):
    import base64

    words = address.token if token == "right" else token
    header = (
        f"Proxy-Authorization: Basic {base64.b64encode(f'x:{words}'.encode()).decode()}\r\n" if token else ""
    )
    with socket.create_connection(("127.0.0.1", int(address.url.rpartition(":")[2]))) as connection:
        connection.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{header}\r\n".encode())
        assert connection.recv(1000).split()[1] == status


def test_the_secrets_are_the_owners(root):
    for path in (root, *root.rglob("*")):
        assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, path


def test_the_authority_vouches_for_one_domain_only(root):
    from cryptography import x509

    text = (root / "tls" / "authority.pem").read_bytes()
    constraints = x509.load_pem_x509_certificate(text).extensions.get_extension_for_class(
        x509.NameConstraints
    )
    assert constraints.critical
    assert [name.value for name in constraints.value.permitted_subtrees] == ["loopback.test"]
    assert "PRIVATE" not in text.decode()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused_by_every_service(name, address, owner, root):
    before = set(root.parent.rglob("x"))
    snapshot = f"{address.url}/content/v2.0{SCOPE}/snapshots"
    tree = {"name": "", "type": "Directory", "children": {name: {"name": name, "type": "File"}}}
    revision = {"FullName": name, "BlobUri": "https://h/snapshots/x?sig=1", "FileSize": 1}
    requests_made = [
        requests.post(f"{snapshot}/getblob", headers=owner, json={"FileNames": [name]}),
        requests.post(
            f"{snapshot}/{uuid.uuid4()}", headers=owner,
            json={"DirTreeNode": tree, "FileRevisionList": {"FileNodes": [revision]}},
        ),
        requests.post(
            f"{address.url}/artifact/v2.0{SCOPE}/artifacts/batch/metadata/ExperimentRun/dcid.r",
            headers=owner, json={"paths": [{"path": name}]},
        ),
        requests.post(
            f"{address.url}/artifact/v2.0{SCOPE}/artifacts/content/ExperimentRun/dcid.r",
            headers=owner, params={"path": name}, data=b"evil",
        ),
    ]  # fmt: skip
    for answer in requests_made:
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["message"]
    assert set(root.parent.rglob("x")) == before


def test_a_hostile_blob_uri_leads_nowhere(address, owner, root):
    """The address of an uploaded file comes back from the client; it may name a snapshot's blob only."""
    for uri in (
        "https://h/snapshots/../../identity.json",
        "file:///etc/passwd",
        "..",
        "",
        "https://h/..?sig=1",
    ):
        tree = {"type": "Directory", "children": {"a": {"type": "File"}}}
        answer = requests.post(
            f"{address.url}/content/v2.0{SCOPE}/snapshots/{uuid.uuid4()}", headers=owner,
            json={"DirTreeNode": tree, "FileRevisionList": {"FileNodes": [
                {"FullName": "a", "BlobUri": uri, "FileSize": (root / "identity.json").stat().st_size}]}},
        )  # fmt: skip
        assert answer.status_code == 400, (uri, answer.text)


def test_raw_paths_do_not_climb(address, root):
    signature = json.loads((root / "identity.json").read_text())["key"]
    signature = Tokens(signature).signature("azureml")
    port = int(address.url.rpartition(":")[2])
    for path in ("/blobs/azureml/../../identity.json", "/blobs/azureml/%2e%2e/%2e%2e/identity.json",
                 "/blobs/azureml//etc/passwd", "/blobs/azureml/%00", "/blobs/../identity.json"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                f"GET {path}?sig={signature} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.split()[1] in (b"400", b"403", b"404"), answer
        assert b"key" not in answer.replace(b"keyVault", b"")


def test_a_link_inside_the_folder_is_not_followed(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "out").symlink_to("/etc")
    (tmp_path / "blobs" / "file").symlink_to("/etc/passwd")
    for name in ("out/passwd", "file"):
        with pytest.raises(http.BadRequest):
            inside(tmp_path / "blobs", name)
    assert regular_files(tmp_path / "blobs") == []


@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_any_name_stays_inside_or_is_refused(name):
    root = Path("/srv/root")
    with contextlib.suppress(http.BadRequest):
        path = inside(root, name)
        assert path.resolve().is_relative_to(root) and path != root and ".." not in path.parts


@given(st.binary(max_size=200), st.integers(0, 300))
def test_an_upload_is_whole_or_nothing(content, announced):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "deep" / "file"
        if announced == len(content):
            save(target, [content], announced)
            assert target.read_bytes() == content
        else:
            with pytest.raises(http.BadRequest):
                save(target, [content], announced)
            assert not target.exists()
        left = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert left == ([target] if target.exists() else [])


@given(st.binary(max_size=100))
def test_any_bytes_for_a_token_are_refused(noise):
    assert Tokens("key").refusal(noise.decode("latin-1"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Configuration", "SnapshotId", "properties", "vmSize", "values", "name", "value", "paths",
                 "path", "filter", "tags", "runs", "runId", "events", "data", "RunId", "FileNames",
                 "DirTreeNode", "children", "latest", "metricId"]
            ),
            inner, max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.sampled_from([b"", b"{", b"[]", b"\xff", b"1e999"]) | JSON.map(lambda v: json.dumps(v).encode())
)
def test_any_body_is_answered_without_a_crash(body, address, owner):
    with requests.Session() as session:
        for method, path in every_route():
            if method in ("POST", "PUT", "PATCH") and "/blobs/" not in path:
                answer = session.request(method, address.url + path, headers=owner, data=body)
                assert answer.status_code != 500, (method, path, answer.text)
