"""The files of a run: listed, written and read through signed addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import ARTIFACTS
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.stored_files import chunks, inside, regular_files, save

routes = Routes()
_BASE = "/artifact/v2.0/<scope:scope>/artifacts"
_RUN = "/history/v1.0/<scope:scope>/<any(experiments,experimentids):by>/<experiment>/runs/<run>/artifacts"


def _folder(call: Call, origin: str, container: str) -> Path:
    return inside(call.blobs, f"{ARTIFACTS}/{origin}/{container}")


def _artifact(origin: str, container: str, path: str) -> dict[str, Any]:
    return {"artifactId": f"{origin}/{container}/{path}", "origin": origin, "container": container,
            "path": path, "etag": None, "createdTime": None, "dataPath": None}  # fmt: skip


def _content(call: Call, origin: str, container: str, path: str) -> dict[str, Any]:
    address = call.state.download_url(ARTIFACTS, f"{origin}/{container}/{path}")
    return {"contentUri": address, "origin": origin, "container": container, "path": path}


def _names(call: Call, origin: str, container: str, prefix: str = "") -> list[str]:
    folder = _folder(call, origin, container)
    names = (path.relative_to(folder).as_posix() for path in regular_files(folder))
    return [name for name in names if name.startswith(prefix)]


@routes("GET", _BASE + "/<origin>/<container_id>")
def list_files(call: Call, origin: str, container_id: str) -> dict[str, Any]:
    """List the files of a run."""
    return {"value": [_artifact(origin, container_id, n) for n in _names(call, origin, container_id)]}


@routes("GET", _RUN)
def list_run_files(call: Call, by: str, experiment: str, run: str) -> dict[str, Any]:
    """List the files of a run, asked for by its id."""
    container = history.run(call.store, run)["dataContainerId"]
    return list_files(call, "ExperimentRun", container)


@routes("GET", _BASE + "/contentinfo/<origin>/<container_id>")
@routes("GET", _BASE + "/contentinfo/<origin>/<container_id>/<path:path>")
def content_info(call: Call, origin: str, container_id: str, path: str = "") -> dict[str, Any]:
    """Return the address to read one file from."""
    path = path or call.request.args.get("path", "")
    if not inside(_folder(call, origin, container_id), path).is_file():
        raise http.NotFound(f"there is no file {path!r} in {container_id}")
    return _content(call, origin, container_id, path)


@routes("GET", _BASE + "/prefix/contentinfo/<origin>/<container_id>")
@routes("GET", _BASE + "/prefix/contentinfo/<origin>/<container_id>/<path:path>")
def prefix_info(call: Call, origin: str, container_id: str, path: str = "") -> dict[str, Any]:
    """Return the addresses of the files whose names have this prefix."""
    prefix = path or call.request.args.get("path", "")
    return {
        "value": [_content(call, origin, container_id, n) for n in _names(call, origin, container_id, prefix)]
    }


@routes("POST", _BASE + "/batch/metadata/<origin>/<container_id>")
def begin_uploads(call: Call, origin: str, container_id: str) -> dict[str, Any]:
    """Return the addresses to write several files to; a file exists once it is written."""
    paths = [call.field(wanted, "path") for wanted in call.json().get("paths", [])]
    folder = _folder(call, origin, container_id)
    for path in paths:
        inside(folder, path)
    where = {p: call.state.upload_url(ARTIFACTS, f"{origin}/{container_id}/{p}") for p in paths}
    return {
        "artifacts": {p: _artifact(origin, container_id, p) for p in paths},
        "artifactContentInformation": {
            p: _content(call, origin, container_id, p) | {"contentUri": where[p]} for p in paths
        },
    }


@routes(
    "POST",
    _BASE + "/content/<origin>/<container_id>",
    _BASE + "/content/<origin>/<container_id>/<path:path>",
    streams=True,
)
def upload_content(call: Call, origin: str, container_id: str, path: str = "") -> dict[str, Any]:
    """Take a small file in the request itself."""
    path = path or call.request.args.get("path", "")
    place = inside(_folder(call, origin, container_id), path)
    save(place, chunks(call.request.stream), call.request.content_length)
    return _artifact(origin, container_id, path)
