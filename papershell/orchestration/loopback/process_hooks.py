"""Where azureml-dataprep finds a datastore's files in a process of this machine: in the workspace's folder.

Its native part asks DNS for the blob host and takes no proxy, unlike the rest of the client. So the dataflow that it
is to carry out gets the files' own places, in the one method that every one of them passes; and a folder is uploaded
by the datastore's own client. What the client sends and registers is unchanged.

The files ``sitecustomize.py`` of runs and control scripts load this one by its place, for a run's own copy of
papershell may lack it. So it imports the standard library only.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

VARIABLE = "PAPERSHELL_DATASTORES"
_WILD = re.compile(r"[*?]")
_GET_PORTABLE_PATH = {"r": ["Identifier", "GetPortablePath"]}
_folders: dict[str, str] = {}


def after_import(name: str, act: Callable[[Any], object]) -> None:
    """Call ``act`` on the module ``name`` as soon as it is loaded; now, if it is."""
    if name in sys.modules:
        act(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, act))


class _Finder:
    """Finds one module as Python does, and acts when it is loaded."""

    def __init__(self, name: str, act: Callable[[Any], object]) -> None:
        self._name, self._act = name, act

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_act(module: Any) -> None:
            load(module)
            self._act(module)

        spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec


def find_datastores_here(folders: Mapping[str, str]) -> None:
    """Read and write the datastores whose addresses begin so in these folders, from now on.

    Parameters
    ----------
    folders : the beginning of a datastore's addresses, up to ``/paths/`` and in lower case, and its folder.
    """
    if not _folders:
        after_import("azureml.dataprep.api._rslex_executor", _read_here)
        after_import("azureml.dataprep.api.engineless_dataflow", _refuse_to_mount)
        after_import("azureml.data.dataset_factory", _upload_here)
    _folders.update(folders)


def _read_here(module: Any) -> None:
    ensured = module._RsLexExecutor._ensure_dataflow

    def ensured_here(self: Any, script: Any) -> Any:
        dataflow = ensured(self, script)
        text = dataflow.to_yaml_string()
        local = local_dataflow(text, _folders)
        return dataflow if local == text else module.PyRsDataflow(local)

    module._RsLexExecutor._ensure_dataflow = ensured_here


def _refuse_to_mount(module: Any) -> None:
    mount = module.EnginelessDataflow.mount

    def mount_elsewhere(self: Any, *arguments: Any, **named: Any) -> Any:
        text = self._to_yaml_string()
        if local_dataflow(text, _folders) != text:
            raise RuntimeError(
                "a data set of a loopback workspace cannot be mounted by mount(); use download()"
            )
        return mount(self, *arguments, **named)

    module.EnginelessDataflow.mount = mount_elsewhere


def _upload_here(module: Any) -> None:
    factory = module.FileDatasetFactory
    upload = factory._upload_directory

    def upload_here(
        src_dir: Any, target: Any, pattern: Any = None, overwrite: bool = False, show_progress: bool = True
    ) -> None:
        datastore, path = module.parse_target(target)
        if _address(datastore) not in _folders:
            upload(src_dir, target, pattern, overwrite, show_progress)
            return
        top = os.path.abspath(src_dir)
        found = (os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)
        files = [file for file in found if pattern is None or fnmatch.fnmatch(file, pattern)]
        datastore.upload_files(files, top, path, overwrite, show_progress)

    factory._upload_directory = staticmethod(upload_here)


def _address(datastore: Any) -> str:
    """Return the beginning of a datastore's addresses, in lower case: the client writes them in several ways."""
    workspace = datastore.workspace
    scope = f"subscriptions/{workspace.subscription_id}/resourcegroups/{workspace.resource_group}"
    return f"azureml://{scope}/workspaces/{workspace.name}/datastores/{datastore.name}".lower()


def local_dataflow(text: str, folders: Mapping[str, str]) -> str:
    """Return a dataflow with the files' own places, if all its paths are addresses of these datastores.

    Parameters
    ----------
    text : YAML, as `azureml.dataprep.rslex.PyRsDataflow.to_yaml_string` gives it.
    folders : as of `find_datastores_here`.
    """
    import yaml  # a requirement of azureml-dataprep

    flow = yaml.safe_load(text)
    paths = flow.get("paths") or []
    places = [_place(address, folders) for path in paths for address in path.values()]
    if not places or None in places:
        return text
    base = os.path.commonpath([_fixed_folder(place) for place in places if place])
    flow["paths"] = [
        dict.fromkeys(path, f"file://{place}") for path, place in zip(paths, places, strict=True)
    ]
    for expression in _expressions(flow):
        source = json.loads(expression["function_source"])
        expression["function_source"] = json.dumps(_rebased(source, base))
    return str(yaml.safe_dump(flow, sort_keys=False, width=float("inf")))


def _place(address: str, folders: Mapping[str, str]) -> str | None:
    """Return the place of an address, a folder's with a slash at its end; None if it is of no such datastore."""
    store, found, path = str(address).partition("/paths/")
    folder = folders.get(store.lower())
    parts = unquote(path).split("/")
    if folder is None or not found or ".." in parts:
        return None
    place = "/".join([folder, *filter(None, parts)])
    if place.endswith("/**"):
        return place + "/*"  # as Azure reads it: all files below
    return place + "/" if os.path.isdir(place) else place


def _fixed_folder(place: str) -> str:
    wild = _WILD.search(place)
    return os.path.dirname(place[: wild.start()] if wild else place)


def _expressions(flow: Any) -> Any:
    for step in flow.get("transformations") or []:
        for expression in (
            (step.get("add_columns") or {}).get("expressions", []) if isinstance(step, dict) else []
        ):
            if "GetPortablePath" in (expression.get("function_source") or ""):
                yield expression


def _rebased(node: Any, base: str) -> Any:
    """Return an expression in which the names of files begin below ``base``."""
    if isinstance(node, dict):
        return {key: _rebased(value, base) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    if len(node) == 2 and node[0] == "Invoke" and node[1][0] == _GET_PORTABLE_PATH:
        function, (column, _) = node[1]
        return ["Invoke", [function, [column, {"r": ["Value", base]}]]]
    return [_rebased(value, base) for value in node]
