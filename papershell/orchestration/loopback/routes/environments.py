"""Environments and their versions; registering the newest version again changes no version."""

from __future__ import annotations

from typing import Any

import werkzeug.exceptions as http

from papershell.orchestration.loopback.routing import Call, Routes
from papershell.orchestration.loopback.store import Document, key_of

routes = Routes()
_CURATED = "AzureML-"
_CURATED_IMAGES = "mcr.microsoft.com/azureml/curated"
_ENVIRONMENTS = "/environment/v1.0/<scope:scope>/environments"


def _versions(call: Call, name: str) -> list[Document]:
    return call.store.all("environment", key_of(name, ""))


def _content(environment: Document) -> Document:
    """Return an environment without its name and version; the client writes ``Docker`` and reads ``docker``."""
    named = {key[:1].lower() + key[1:]: value for key, value in environment.items()}
    return {key: value for key, value in named.items() if key not in ("name", "version")}


@routes("PUT", _ENVIRONMENTS + "/<name>", _ENVIRONMENTS + "/<name>/versions/<version>")
def register(call: Call, name: str, version: str = "") -> dict[str, Any]:
    """Register an environment under the next version, or under the one that is asked for."""
    versions = _versions(call, name)
    wanted = call.json()
    if versions and _content(versions[-1]) == _content(wanted):
        return versions[-1]
    newest = max((int(e["version"]) for e in versions), default=0)
    number = version if version.isdecimal() else str(newest + 1)
    document = _content(wanted) | {"name": name, "version": number}
    return call.store.put("environment", key_of(name, number), document)


@routes("GET", _ENVIRONMENTS + "/<name>", _ENVIRONMENTS + "/<name>/versions/<version>")
def get(call: Call, name: str, version: str = "") -> dict[str, Any]:
    """Return an environment: the version asked for, or the newest."""
    fitting = [e for e in _versions(call, name) if not version or e["version"] == version]
    if not fitting and name.startswith(_CURATED):
        return _curated(name, version or "1")
    if not fitting:
        raise http.NotFound(f"there is no environment {name!r} {version}".rstrip())
    return fitting[-1]


def _curated(name: str, version: str) -> Document:
    """Return an environment of Azure's own by its name, with the image that carries it there; none is built here."""
    return {
        "name": name, "version": version, "environmentVariables": {},
        "python": {"userManagedDependencies": True, "interpreterPath": "python"},
        "docker": {"baseImage": f"{_CURATED_IMAGES}/{name.removeprefix(_CURATED).lower()}:{version}"},
    }  # fmt: skip


@routes("GET", _ENVIRONMENTS + "/")
def list_newest(call: Call) -> dict[str, Any]:
    """List the newest version of every environment."""
    newest = {e["name"]: e for e in call.store.all("environment")}
    return {"value": list(newest.values())}
