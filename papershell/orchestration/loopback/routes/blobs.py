"""Blob storage: put, blocks, head, ranged get, list and delete, on plain files."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import shutil
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import werkzeug.exceptions as http
from werkzeug.utils import send_file
from werkzeug.wrappers import Response

from papershell.orchestration.loopback.limits import BODY_BYTES
from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.stored_files import (
    chunks,
    container_folder,
    inside,
    regular_files,
    save,
)

routes = Routes()
_CONTAINER = "/blobs/<container>"
_BLOB = _CONTAINER + "/<path:name>"

# A job may have written it: in a browser it runs no script and is nothing else than it says.
_INERT = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}


def _headers(path: Path) -> dict[str, str]:
    status = path.stat()
    return {
        "ETag": f'"0x{status.st_mtime_ns:X}"', "Last-Modified": formatdate(status.st_mtime, usegmt=True),
        "x-ms-request-id": "0", "x-ms-version": "2019-12-12", "x-ms-blob-type": "BlockBlob",
        "x-ms-request-server-encrypted": "false", "Accept-Ranges": "bytes",
    }  # fmt: skip


def _place(call: Call, container: str, name: str) -> Path:
    return inside(container_folder(call.blobs, container), name)


def _existing(call: Call, container: str, name: str) -> Path:
    path = _place(call, container, name)
    if not path.is_file():
        raise http.NotFound(f"there is no blob {container}/{name}")
    return path


def _block(call: Call, path: Path, block: str) -> Path:
    """Return the file of one block of an unfinished blob."""
    names = (hashlib.sha256(text.encode()).hexdigest() for text in (str(path), block))
    return call.state.root.joinpath("blocks", *names)


@routes("PUT", _BLOB, streams=True)
def put(call: Call, container: str, name: str) -> Response:
    """Take a blob whole, one block of it, or the list that makes its blocks a blob."""
    path = _place(call, container, name)
    part = call.request.args.get("comp", "")
    if part == "blocklist":
        _join(call, path)
        return Response(status=201, headers=_headers(path))
    target = _block(call, path, call.request.args["blockid"]) if part == "block" else path
    length = call.request.content_length
    digests = save(target, chunks(call.request.stream), length, call.request.headers)
    return Response(status=201, headers=_headers(target) | digests)


def _join(call: Call, path: Path) -> None:
    call.request.max_content_length = BODY_BYTES
    try:
        wanted = [element.text or "" for element in ElementTree.fromstring(call.request.get_data())]
    except ElementTree.ParseError as error:
        raise http.BadRequest(f"the list of blocks is not XML: {error}") from error
    parts = [_block(call, path, block) for block in wanted]
    if not all(part.is_file() for part in parts):
        raise http.BadRequest("the list names a block that never arrived; send the blob again")
    save(path, _joined(parts))
    shutil.rmtree(_block(call, path, "").parent, ignore_errors=True)


def _joined(parts: Sequence[Path]) -> Iterator[bytes]:
    for part in parts:
        with part.open("rb") as file:
            yield from chunks(file)


def _md5(path: Path) -> str:
    status = path.stat()
    return _md5_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=100_000)
def _md5_of(path: Path, mtime_ns: int, size_bytes: int) -> str:
    """Return the MD5 of a blob as long as it is this one: its file is replaced, never written to."""
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()


@routes("HEAD", _BLOB)
def head(call: Call, container: str, name: str) -> Response:
    """Return a blob's size, stamps and MD5."""
    path = _existing(call, container, name)
    response = Response(headers=_headers(path) | {"Content-MD5": _md5(path)})
    response.content_length = path.stat().st_size
    return response


@routes("GET", _BLOB)
def get(call: Call, container: str, name: str) -> Response:
    """Return a blob, or the range of it that was asked for."""
    return read(call, container, name)


def read(call: Call, container: str, name: str) -> Response:
    """Return a file of a container, or the range of it that was asked for."""
    path = _existing(call, container, name)
    environ = dict(call.request.environ)
    if "HTTP_X_MS_RANGE" in environ:
        environ["HTTP_RANGE"] = environ["HTTP_X_MS_RANGE"]
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    response = send_file(path, environ, mimetype=kind, conditional=True, etag=False)
    response.headers.update(_headers(path) | _INERT)
    return response


@routes("DELETE", _BLOB)
def delete(call: Call, container: str, name: str) -> Response:
    """Remove a blob."""
    _existing(call, container, name).unlink()
    return Response(status=202)


@routes("GET", _CONTAINER)
def list_blobs(call: Call, container: str) -> Response:
    """List a container's blobs below a prefix, or return its properties."""
    if call.request.args.get("comp") != "list":
        return Response(headers={"ETag": '"0x0"', "Last-Modified": formatdate(0, usegmt=True)})
    folder = container_folder(call.blobs, container)
    prefix = call.request.args.get("prefix", "")
    root = ElementTree.Element("EnumerationResults", ServiceEndpoint=call.state.url, ContainerName=container)
    blobs = ElementTree.SubElement(root, "Blobs")
    for path in regular_files(folder):
        name = path.relative_to(folder).as_posix()
        if name.startswith(prefix):
            _describe(ElementTree.SubElement(blobs, "Blob"), name, path)
    ElementTree.SubElement(root, "NextMarker")
    return Response(ElementTree.tostring(root, encoding="utf-8"), content_type="application/xml")


def _describe(blob: Any, name: str, path: Path) -> None:
    ElementTree.SubElement(blob, "Name").text = name
    properties = ElementTree.SubElement(blob, "Properties")
    stamps = _headers(path)
    for tag, text in {
        "Last-Modified": stamps["Last-Modified"], "Etag": stamps["ETag"],
        "Content-Length": str(path.stat().st_size), "Content-MD5": _md5(path), "BlobType": "BlockBlob",
    }.items():  # fmt: skip
        ElementTree.SubElement(properties, tag).text = text
