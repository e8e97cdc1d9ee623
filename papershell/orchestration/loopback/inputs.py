"""Data of a run: the files of its datasets and data references, laid into the run's own folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import werkzeug.exceptions as http
import yaml

from papershell.orchestration.loopback.datasets import saved_dataset
from papershell.orchestration.loopback.names import DATASTORES
from papershell.orchestration.loopback.store import Document, Store
from papershell.orchestration.loopback.stored_files import chunks, inside, regular_files, save

_DATASTORE_URI = re.compile(r"azureml://(?:.*/)?datastores/(?P<datastore>[^/]+)/paths/(?P<path>.*)")
_WILD = re.compile(r"[*?]")
# The wildcards of a path, escaped, and their regular expressions; the longest come first.
_GLOB = {r"\*\*/": "(?:.*/)?", r"\*\*": ".*", r"\*": "[^/]*", r"\?": "[^/]"}
_WILDCARD = re.compile("|".join(map(re.escape, _GLOB)))
_TIMEOUT_S = 60


class InputError(RuntimeError):
    """An input of a run is missing; the message says which and why."""


@dataclass(frozen=True)
class Input:
    """One input: its placeholder in the command line, its environment variable, their value (a folder, or an id)."""

    placeholder: str
    variable: str
    value: str


def prepare(configuration: Document, store: Store, blobs: Path, folder: Path) -> list[Input]:
    """Lay every input of a submitted configuration below ``folder``.

    A mounted file is a symbolic link to the blob, a downloaded one is a copy; a data set that the script reads
    itself, as most Tabular ones, is named by its id.

    Raises
    ------
    InputError
        A dataset, a datastore's path or an address has no files.
    """
    prepared = []
    for name, wanted in (configuration.get("data") or {}).items():
        target = inside(folder, name)
        mechanism = str(wanted.get("mechanism")).lower()
        if mechanism not in ("mount", "download", "direct"):
            raise InputError(
                f"input {name!r} is to be handed over by {mechanism}; use as_mount or as_download"
            )
        dataset = ((wanted.get("dataLocation") or {}).get("dataset") or {}).get("id")
        for address in addresses(store, dataset, name) if mechanism != "direct" else ():
            _lay(address, blobs, target, copy=mechanism != "mount")
        value = str(dataset) if mechanism == "direct" else str(target)
        prepared.append(
            Input(f"DatasetConsumptionConfig:{name}", wanted.get("environmentVariableName") or name, value)
        )
    for name, wanted in (configuration.get("dataReferences") or {}).items():
        variable = f"AZUREML_DATAREFERENCE_{name}"
        address = (
            f"azureml://datastores/{wanted['dataStoreName']}/paths/{wanted.get('pathOnDataStore') or ''}"
        )
        target = inside(folder, name)
        _lay(address, blobs, target, copy=wanted.get("mode") != "mount")
        prepared.append(Input(f"${variable}", variable, str(target)))
    return prepared


def addresses(store: Store, dataset: str | None, name: str) -> list[str]:
    """Return the addresses that a dataset's dataflow lists."""
    try:
        dataflow = saved_dataset(store, dataset or "")["dataflow"]
        paths = yaml.safe_load(json.loads(dataflow)["meta"]["RsDataflow"])["paths"]
    except (http.NotFound, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"input {name!r} names a dataset that cannot be read here: {error}") from error
    return [address for path in paths for address in path.values()]


def _lay(address: str, blobs: Path, target: Path, *, copy: bool) -> None:
    target.mkdir(parents=True, exist_ok=True)
    in_datastore = _DATASTORE_URI.fullmatch(address)
    if in_datastore is None:
        _download(address, target)
        return
    container = blobs / DATASTORES.get(in_datastore["datastore"], "-")
    found = list(_matching(container, unquote(in_datastore["path"])))
    if not found:
        raise InputError(f"there is no file at {address}; upload the data first")
    for path, name in found:
        place = inside(target, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            shutil.copyfile(path, place)
        else:
            os.symlink(path, place)


def _as_regex(wildcard: re.Match[str]) -> str:
    return _GLOB[wildcard[0]]


def _matching(container: Path, pattern: str) -> Iterator[tuple[Path, str]]:
    """Yield the files that a folder, a file or a glob names, and their names below its fixed part."""
    wild = _WILD.search(pattern)
    fixed = pattern[: wild.start()] if wild else pattern
    base = fixed if fixed.endswith("/") or not fixed else str(PurePosixPath(fixed).parent) + "/"
    regex = re.compile(_WILDCARD.sub(_as_regex, re.escape(pattern)))
    for path in regular_files(container):
        name = path.relative_to(container).as_posix()
        if wild:
            if regex.fullmatch(name):
                yield path, name.removeprefix(base)
        elif name == pattern:
            yield path, PurePosixPath(name).name
        elif name.startswith(pattern.rstrip("/") + "/") or not pattern:
            yield path, name[len(pattern.rstrip("/")) :].lstrip("/")


def _download(address: str, target: Path) -> None:
    """Fetch one file of the web into ``target``, under its own name."""
    if urlsplit(address).scheme not in ("http", "https"):
        raise InputError(f"{address} is neither a datastore's path nor a web address")
    try:
        with requests.get(address, stream=True, timeout=_TIMEOUT_S) as response:
            response.raise_for_status()
            length: Any = response.headers.get("Content-Length")
            response.raw.decode_content = False
            name = PurePosixPath(urlsplit(address).path).name or "index"
            save(inside(target, name), chunks(response.raw), int(length) if length else None)
    except (requests.RequestException, OSError, http.HTTPException) as error:
        raise InputError(f"{address} cannot be downloaded: {error}") from error
