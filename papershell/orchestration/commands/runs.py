"""``papershell runs``: the runs in a record, their parameters and results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from papershell.orchestration.commands.options import (
    LOCAL,
    Auth,
    Records,
    SignIn,
    Workspace,
    opened,
    show_log,
)
from papershell.orchestration.commands.record_store import runs_of
from papershell.orchestration.table import print_table

if TYPE_CHECKING:
    from papershell.orchestration.azure.run_handle import RunHandle
    from papershell.trainers.recording import RunRecord

group = typer.Typer(
    help="List, show and compare runs; follow, end and download those of a workspace.", no_args_is_help=True
)
RunId = Annotated[str, typer.Argument(help="The run's id, or its beginning.")]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="runs")


@group.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    workspace: Records = "",
) -> None:
    """List the newest runs with their accuracy."""
    rows = [
        (
            _short(run.id, workspace),
            run.name,
            run.experiment,
            run.status.lower(),
            f"{run.started:%Y-%m-%d %H:%M:%S}",
            _number(run.metrics.get("regularization rate")),
            _number(_metrics(run).get("accuracy")),
        )
        for run in runs_of(workspace).list_runs(limit)
    ]
    print_table(("run", "name", "experiment", "status", "started", "rate", "accuracy"), rows)


@group.command()
def show(run: RunId, workspace: Records = "") -> None:
    """Show everything that a run recorded."""
    found = runs_of(workspace).get_run(run)
    print(f"{found.id}  {found.name}, {found.experiment}, {found.status.lower()}, {found.started:%c}")
    if found.failure:
        print(f"failure: {found.failure}")
    for heading, values in (("parameters", found.params), ("metrics", found.metrics)):
        print(heading)
        for name, value in sorted(values.items()):
            print(f"  {name}: {value}")
    print("files")
    for path in found.files:
        print(f"  {path}")


@group.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more, by the beginning of their ids.")],
    workspace: Records = "",
) -> None:
    """Show runs side by side, rows that differ in bold."""
    records = runs_of(workspace)
    found = [records.get_run(run) for run in runs]
    rows = _rows(found)
    differing = {index for index, (_, *values) in enumerate(rows) if len(set(values)) > 1}
    print_table(("", *(_short(run.id, workspace) for run in found)), rows, bold=differing)


def _rows(runs: list[RunRecord]) -> list[tuple[str, ...]]:
    params = sorted({name for run in runs for name in run.params})
    measured = list(map(_metrics, runs))
    metrics = sorted({name for values in measured for name in values})
    return [
        ("name", *(run.name for run in runs)),
        *((name, *(run.params.get(name, "") for run in runs)) for name in params),
        *((name, *(_number(values.get(name)) for values in measured)) for name in metrics),
    ]


def _metrics(run: RunRecord) -> dict[str, float]:
    """Return a run's metrics, its accuracy that of the test part, as every trainer's but Keras's is by itself."""
    found = dict(run.metrics)
    if "final test accuracy" in found:
        found["training accuracy"] = found.pop("accuracy", float("nan"))
        found["accuracy"] = found.pop("final test accuracy")
    return found


def _short(run_id: str, workspace: str) -> str:
    """Return as much of a run's id as tells it from others: a workspace's begin with the experiment."""
    return run_id[:8] if workspace == LOCAL else run_id


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


@group.command()
def log(run: RunId, workspace: Workspace = "", auth: SignIn = Auth.auto) -> None:
    """Show the log of a workspace's run, and follow it until the run ends."""
    show_log(_find(run, workspace, auth), workspace)


@group.command()
def cancel(run: RunId, workspace: Workspace = "", auth: SignIn = Auth.auto) -> None:
    """End a run of a workspace, and wait until it has ended."""
    handle = _find(run, workspace, auth)
    handle.cancel()
    print(handle.wait())


@group.command()
def download(
    run: RunId,
    workspace: Workspace = "",
    prefix: Annotated[str, typer.Option(help="Only files whose names begin so.")] = "outputs/",
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path(),
    auth: SignIn = Auth.auto,
) -> None:
    """Download the files of a workspace's run."""
    for path in _find(run, workspace, auth).download(out, prefix=prefix):
        print(f"wrote {path}")


@group.command("register")
def register_(
    run: RunId,
    name: Annotated[str, typer.Argument(help="The name to register under, as in sklearn_mnist.")],
    path: Annotated[str, typer.Argument(help="File or folder of the run, as in outputs/model.")],
    workspace: Workspace = "",
    auth: SignIn = Auth.auto,
) -> None:
    """Register files of a workspace's run as the next version of a model."""
    model = _find(run, workspace, auth).register(name, path)
    print(f"registered {model.name}, id {model.id}, version {model.version}")


def _find(run: str, workspace: str, auth: Auth) -> RunHandle:
    from papershell.orchestration.azure.run_handle import find_run

    return find_run(opened(workspace, auth), run)
