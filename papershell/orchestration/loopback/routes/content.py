"""Snapshots of source folders."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import werkzeug.exceptions as http

from papershell.kernels.files import replacing
from papershell.orchestration.loopback.names import SNAPSHOTS
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.stored_files import inside

routes = Routes()
_SNAPSHOTS = "/content/<any('v1.0','v2.0'):version>/<scope:scope>/snapshots"


@routes("GET", _SNAPSHOTS + "/latest/metadata")
def latest(call: Call, version: str) -> dict[str, Any]:
    """Return the empty snapshot: a client without a cache sends everything."""
    return {"id": "00000000-0000-0000-0000-000000000000", "root": {}}


@routes("POST", _SNAPSHOTS + "/getblob")
def addresses(call: Call, version: str) -> dict[str, Any]:
    """Return the addresses to write the named files to."""
    names = call.field(call.json(), "FileNames")
    for name in names:
        inside(call.blobs / SNAPSHOTS, name)
    address = call.state.upload_url
    return {"fileNodes": [{"fullName": n, "blobUri": address(SNAPSHOTS, uuid.uuid4().hex)} for n in names]}


@routes("POST", _SNAPSHOTS + "/<snapshot>")
def create(call: Call, version: str, snapshot: str) -> dict[str, Any]:
    """Keep a snapshot: the tree it names, from newly sent files and its parent's."""
    wanted = call.json()
    parent = call.store.get("snapshot", str(wanted.get("ParentSnapshotId"))) or {"files": {}}
    sent = (wanted.get("FileRevisionList") or {}).get("FileNodes") or []
    files = parent["files"] | {call.field(node, "FullName"): _verified(call, node) for node in sent}
    names = list(_names(wanted.get("DirTreeNode") or {}, ""))
    for name in names:
        inside(call.blobs / SNAPSHOTS, name)
        if name not in files:
            raise http.BadRequest(f"the snapshot names {name!r}, which was never sent; submit again")
    call.store.put("snapshot", snapshot, {"id": snapshot, "files": {n: files[n] for n in names}})
    return {"id": snapshot}


def _verified(call: Call, node: dict[str, Any]) -> str:
    """Return the name of a sent blob, once it lies here with the size that was announced."""
    blob = urlsplit(call.field(node, "BlobUri")).path.rpartition("/")[2]
    path = inside(call.blobs / SNAPSHOTS, blob)
    size = path.stat().st_size if path.is_file() else None
    if size != node.get("FileSize"):
        raise http.BadRequest(
            f"{node['FullName']!r} did not arrive: {size} of {node.get('FileSize')} bytes; submit again"
        )
    return blob


def _names(node: dict[str, Any], prefix: str) -> Iterator[str]:
    """Walk the client's tree of folders and files."""
    for name, child in (node.get("children") or {}).items():
        if child.get("type") == "File":
            yield prefix + name
        else:
            yield from _names(child, f"{prefix}{name}/")


@routes("GET", _SNAPSHOTS + "/<snapshot>")
@routes("GET", _SNAPSHOTS + "/<snapshot>/metadata")
def get(call: Call, version: str, snapshot: str) -> dict[str, Any]:
    """Return a snapshot's files."""
    return call.store.require("snapshot", snapshot, f"there is no snapshot {snapshot}; submit the run again")


@routes("POST", _SNAPSHOTS + "/<snapshot>/zip", streams=True)
def archive(call: Call, version: str, snapshot: str) -> dict[str, Any]:
    """Make a snapshot one zip file; return the address to read it from."""
    folder = call.blobs / SNAPSHOTS
    path = inside(folder, f"{snapshot}.zip")
    files = get(call, version, snapshot)["files"]
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, blob in files.items():
            whole.write(folder / blob, name)
    return {"zipSasUri": call.state.download_url(SNAPSHOTS, path.name)}
