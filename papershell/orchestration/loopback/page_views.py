"""The contents of the workspace's page, as plain values: each text in them may be a job's choice."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from papershell.orchestration.loopback import curves, metric_records
from papershell.orchestration.loopback import run_history as history
from papershell.orchestration.loopback.inputs import InputError, addresses
from papershell.orchestration.loopback.mlflow_records import milliseconds, now_ms
from papershell.orchestration.loopback.state import State
from papershell.orchestration.loopback.store import Document, Store

RUNS_A_PAGE, SHOWN_NUMBERS, MOST_IMAGES, MOST_FILES, MOST_ROWS = 50, 4, 24, 1000, 200
LOG_TAIL_BYTES = 64 << 10
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"}
TEXTS = {
    ".txt",
    ".log",
    ".json",
    ".csv",
    ".tsv",
    ".md",
    ".yml",
    ".yaml",
    ".py",
    ".toml",
    ".cfg",
    ".ini",
    ".xml",
    "",
}
_TOP = {"parentRunId": None, "hidden": False}


def runs_page(state: State, experiment: Document | None, number: int) -> dict[str, Any]:
    """Return one page of the runs of all experiments, or of one, newest first, without child runs."""
    wanted = {"experimentId": experiment["experimentId"]} if experiment else {}
    found = state.store.newest("run", _TOP | wanted, (number - 1) * RUNS_A_PAGE, RUNS_A_PAGE)
    counts = state.store.counts("run", "experimentId", _TOP)
    total = counts.get(experiment["experimentId"], 0) if experiment else sum(counts.values())
    experiments = state.store.all("experiment")
    return {
        "runs": run_rows(state.store, found), "number": number, "total": total, "experiment": experiment,
        "pages": max(1, -(-total // RUNS_A_PAGE)),
        "experiments": [
            {"id": e["experimentId"], "name": e["name"], "runs": counts.get(e["experimentId"], 0)} for e in experiments
        ],
        "active": any(run["status"] not in history.FINAL for run in found),
    }  # fmt: skip


def run_rows(store: Store, records: Iterable[Document]) -> list[dict[str, Any]]:
    """Return some runs as rows of a table."""
    names = {e["experimentId"]: e["name"] for e in store.all("experiment")}
    return [_row(store, record, names.get(record["experimentId"], "")) for record in records]


def _row(store: Store, record: Document, experiment: str) -> dict[str, Any]:
    numbers = metric_records.numbers(metric_records.metrics(store, record["runId"]))
    return _head(record) | {
        "experiment": experiment,
        "experiment_id": record["experimentId"],
        "numbers": [(name, f"{value:.6g}") for name, value in numbers.items()][:SHOWN_NUMBERS],
        "more": max(0, len(numbers) - SHOWN_NUMBERS),
    }


def _head(record: Document) -> dict[str, Any]:
    start, end = (milliseconds(record.get(name)) for name in ("startTimeUtc", "endTimeUtc"))
    return {
        "id": record["runId"], "name": title(record), "status": record["status"],
        "final": record["status"] in history.FINAL, "created": local_time(record["createdUtc"]),
        "seconds": duration((end or now_ms()) - start) if start else "",
    }  # fmt: skip


def title(record: Document) -> str:
    """Return the name under which the page shows a run; a trainer of papershell is one."""
    name = history.display_name(record)
    return str(record["tags"].get("trainer") or name) if name == record["runId"] else name


def local_time(text: Any) -> str:
    """Return a time of a record, in this machine's time zone; empty if it is none."""
    at_ms = milliseconds(text)
    return datetime.fromtimestamp(at_ms / 1000).strftime("%Y-%m-%d %H:%M:%S") if at_ms else ""


def duration(span_ms: int) -> str:
    """Return a time span in words."""
    seconds = max(0, span_ms) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


def size(count: int) -> str:
    """Return a number of bytes in a fitting unit."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def run_page(state: State, record: Document) -> dict[str, Any]:
    """Return all that is shown of one run, but its log."""
    store, run_id = state.store, record["runId"]
    configuration = (store.get("submission", run_id) or {}).get("configuration") or {}
    (row,) = run_rows(store, [record])
    return row | metrics(store, run_id) | files(state.blobs, record) | {
        "parent": record.get("parentRunId"), "target": record.get("target"), "tags": record["tags"],
        "user": _dict(record.get("createdBy")).get("userName", ""), "parameters": _dict(record.get("parameters")),
        "error": _dict(_dict(record.get("error")).get("error")).get("message"),
        "warnings": [note.get("message") for note in _dicts(record.get("warnings"))],
        "command": command(configuration), "inputs": inputs(store, configuration, record),
        "children": run_rows(store, store.newest("run", {"parentRunId": run_id})),
        "models": [model["id"] for model in store.newest("model", {"runId": run_id})],
        "active": not row["final"],
    }  # fmt: skip


def _dict(value: Any) -> Document:
    """Return a part of a record that should be an object; a client may have put something else there."""
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[Document]:
    """Return the objects of a part of a record that should be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def command(configuration: Document) -> str:
    """Return the script of a submitted run with its arguments."""
    words = configuration.get("command") or [
        configuration.get("script"),
        *(configuration.get("arguments") or []),
    ]
    return words if isinstance(words, str) else " ".join(str(word) for word in words if word is not None)


def inputs(store: Store, configuration: Document, record: Document) -> list[dict[str, Any]]:
    """Return the data of a run: data sets, data references, and what MLflow noted."""
    rows = []
    for name, wanted in (configuration.get("data") or {}).items():
        saved = ((wanted.get("dataLocation") or {}).get("dataset") or {}).get("id")
        definition = store.get("saved-dataset", str(saved)) or {}
        registered = store.get("dataset", str(definition.get("registeredAs"))) or {}
        version = (registered.get("latest") or {}).get("versionId")
        shown = f"{registered['name']}, version {version}" if registered else "not registered"
        rows.append({"name": name, "data": shown, "mode": wanted.get("mechanism")})
    for name, wanted in (configuration.get("dataReferences") or {}).items():
        place = f"{wanted.get('dataStoreName')}/{wanted.get('pathOnDataStore') or ''}"
        rows.append({"name": name, "data": place, "mode": wanted.get("mode")})
    for note in _dicts(record.get("mlflowDatasets")):
        dataset = _dict(note.get("dataset"))
        rows.append({"name": dataset.get("name"), "data": dataset.get("digest"), "mode": "noted by MLflow"})
    return rows


def metrics(store: Store, run_id: str) -> dict[str, Any]:
    """Return the metrics of a run: curves of those logged often, single values, tables and texts."""
    found: dict[str, list[Any]] = {"curves": [], "singles": [], "tables": []}
    for metric in metric_records.metrics(store, run_id):
        if metric_records.number(metric, metric.get("last") or {}) is None:
            found["tables"].append(_table(store, metric))
            continue
        points = metric_records.curve(store, metric)
        value = {"name": metric["name"], "last": f"{points[-1][1]:.6g}"}
        if len(points) > 1:
            found["curves"].append(value | {"chart": curves.chart([points])})
        else:
            found["singles"].append(value)
    return found


def _table(store: Store, metric: Document) -> dict[str, Any]:
    values = [value["data"] for _, value in store.sample("metric-value", f"{metric_key(metric)}/", MOST_ROWS)]
    columns = list(dict.fromkeys(column for value in values for column in value or {}))
    rows = [[(value or {}).get(column, "") for column in columns] for value in values]
    return {"name": metric["name"], "columns": columns, "rows": rows}


def metric_key(metric: Document) -> str:
    """Return the key of a metric's record."""
    return metric_records.key(metric["runId"], metric["name"])


def files(blobs: Path, record: Document) -> dict[str, Any]:
    """Return the files of a run, which of them are images, and which are logs."""
    folder = blobs / history.artifact_folder(record)
    names = [path.relative_to(folder).as_posix() for path in history.artifact_files(blobs, record)]
    listed: list[dict[str, Any]] = [
        {"name": name, "size": size((folder / name).stat().st_size), "url": file_url(record, name),
         "shown": shown_as(name) != "download"}
        for name in names[:MOST_FILES]
    ]  # fmt: skip
    return {
        "files": listed, "unlisted": len(names) - len(listed),
        "images": [file for file in listed if shown_as(file["name"]) == "image"][:MOST_IMAGES],
        "logs": sorted((n for n in names if n.startswith(("user_logs/", "system_logs/"))), reverse=True),
    }  # fmt: skip


def file_url(record: Document, name: str) -> str:
    """Return the address of a file of a run, as the page links to it."""
    return f"/runs/{quote(record['runId'], safe='')}/files/{quote(name)}"


def shown_as(name: str) -> str:
    """Return how a browser shows a file that a job wrote: as an image, as plain text, or not."""
    suffix = Path(name).suffix.lower()
    return "image" if suffix in IMAGES else "text" if suffix in TEXTS else "download"


def content_type(name: str) -> str:
    """Return the type under which a file is sent: that of an image, of plain text, or of mere bytes."""
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {"image": guessed, "text": "text/plain"}.get(shown_as(name), "application/octet-stream")


def log_tail(path: Path) -> dict[str, Any]:
    """Return the end of a log as text, and the place in bytes where it ends."""
    with path.open("rb") as file:
        end = path.stat().st_size
        file.seek(max(0, end - LOG_TAIL_BYTES))
        return {"text": file.read(min(end, LOG_TAIL_BYTES)).decode(errors="replace"), "end": end,
                "cut": end > LOG_TAIL_BYTES}  # fmt: skip


def comparison(state: State, records: list[Document]) -> dict[str, Any]:
    """Return several runs side by side: their curves in one picture each, their numbers and parameters in rows."""
    store = state.store
    found = [{m["name"]: m for m in metric_records.metrics(store, r["runId"])} for r in records]
    names = list(dict.fromkeys(name for of_run in found for name in of_run))
    curves_of = {n: [metric_records.curve(store, of[n]) if n in of else [] for of in found] for n in names}
    last = [metric_records.numbers(of.values()) for of in found]
    parameters = [_settings(record) for record in records]
    return {
        "runs": run_rows(store, records),
        "charts": [
            {"name": name, "chart": curves.chart(series)}
            for name, series in curves_of.items() if any(len(points) > 1 for points in series)
        ],
        "numbers": _rows([{n: f"{v:.6g}" for n, v in of_run.items()} for of_run in last]),
        "parameters": _rows(parameters),
        "active": any(record["status"] not in history.FINAL for record in records),
    }  # fmt: skip


def _settings(record: Document) -> dict[str, str]:
    return {k: str(v) for k, v in (record["tags"] | _dict(record.get("parameters"))).items()}


def _rows(of_runs: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return one row for each name in any of the dictionaries, with whether the values differ."""
    names = dict.fromkeys(name for of_run in of_runs for name in of_run)
    rows = ((name, [of_run.get(name, "") for of_run in of_runs]) for name in names)
    return [{"name": name, "cells": values, "differ": len(set(values)) > 1} for name, values in rows]


def models_page(store: Store) -> dict[str, Any]:
    """Return the registered models, newest first."""
    rows = [
        {"name": m["name"], "version": m["version"], "created": local_time(m["createdTime"]), "run": m.get("runId"),
         "tags": m.get("kvTags") or {}, "description": m.get("description") or ""}
        for m in store.newest("model", {}, most=MOST_FILES)
    ]  # fmt: skip
    return {"models": rows}


def datasets_page(store: Store) -> dict[str, Any]:
    """Return the registered versions of data sets, newest first."""
    rows = [
        {"name": d["name"], "version": (d.get("latest") or {}).get("versionId"),
         "created": local_time(d["createdTime"]), "description": d.get("description") or "",
         "paths": dataset_paths(store, d)}
        for d in store.newest("dataset", {}, most=MOST_ROWS)
    ]  # fmt: skip
    return {"datasets": rows}


def dataset_paths(store: Store, dataset: Document) -> list[str]:
    """Return the addresses of a data set's files, as it was registered; empty if they cannot be read here."""
    saved = (dataset.get("latest") or {}).get("savedDatasetId")
    try:
        return addresses(store, saved, dataset["name"])
    except InputError:
        return []


def clusters_page(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the clusters with their nodes."""
    rows = []
    for resource in resources:
        outer = resource["properties"]
        inner = outer["properties"]
        scale = inner["scaleSettings"]
        nodes = f"{scale.get('minNodeCount', 0)} to {scale.get('maxNodeCount', '?')}"
        rows.append({
            "name": resource["name"], "size": inner["vmSize"], "state": outer["provisioningState"],
            "priority": inner["vmPriority"], "nodes": nodes,
            "busy": inner["nodeStateCounts"]["runningNodeCount"], "created": local_time(outer["createdOn"]),
        })  # fmt: skip
    return {"clusters": rows}
