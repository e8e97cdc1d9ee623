"""MLflow's artifacts: files of a run by signed addresses, and the list of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import werkzeug.exceptions as http
from werkzeug.wrappers import Response

from papershell.orchestration.loopback import mlflow_records as mlflow
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.names import ARTIFACTS
from papershell.orchestration.loopback.routes.blobs import read
from papershell.orchestration.loopback.routes.mlflow_tracking import API
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.stored_files import chunks, inside, save

routes = Routes()
_FILES = "/mlflow-files/<artifacts_signature>/mlflow-artifacts/artifacts"
_FILE = _FILES + "/<path:name>"


@routes("PUT", _FILE, streams=True)
def put(call: Call, artifacts_signature: str, name: str) -> dict[str, Any]:
    """Take a file whole."""
    save(inside(call.blobs / ARTIFACTS, name), chunks(call.request.stream), call.request.content_length)
    return {}


@routes("GET", _FILE)
def get(call: Call, artifacts_signature: str, name: str) -> Response:
    """Return a file, or the range of it that was asked for."""
    return read(call, ARTIFACTS, name)


@routes("DELETE", _FILE)
def delete(call: Call, artifacts_signature: str, name: str) -> dict[str, Any]:
    """Remove a file."""
    path = inside(call.blobs / ARTIFACTS, name)
    if not path.is_file():
        raise http.NotFound(f"there is no file {name!r}; list the files of the run")
    path.unlink()
    return {}


@routes("GET", _FILES)
def list_files(call: Call, artifacts_signature: str) -> dict[str, Any]:
    """List a folder: names, without those of the folders above."""
    folder = inside(call.blobs / ARTIFACTS, call.request.args.get("path", ""))
    return {"files": [item | {"path": item["path"].rpartition("/")[2]} for item in _listing(folder, folder)]}


@routes("GET", API + "/artifacts/list")
def list_artifacts(call: Call) -> dict[str, Any]:
    """List a folder of a run, with names from the run's own folder on."""
    args = call.request.args
    record = history.run(call.store, args.get("run_id", ""))
    root = call.blobs / history.artifact_folder(record)
    folder = inside(root, args["path"]) if args.get("path") else root
    return {"root_uri": mlflow.run_files_url(call.state, record), "files": _listing(root, folder)}


def _listing(root: Path, folder: Path) -> list[dict[str, Any]]:
    """Return a folder's content in MLflow's form; links are left out."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        {"path": path.relative_to(root).as_posix(), "is_dir": path.is_dir()}
        | ({} if path.is_dir() else {"file_size": path.stat().st_size})
        for path in found
        if not path.is_symlink()
    ]
