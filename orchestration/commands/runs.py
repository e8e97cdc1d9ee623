"""``papershell runs``: what was done and how it came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainers.tracking import RunRecord

group = typer.Typer(help="List, show and compare runs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="runs")


@group.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
) -> None:
    """List the newest runs with their accuracy."""
    from rich.console import Console
    from rich.table import Table

    from trainers.tracking import list_runs

    table = Table("run", "name", "experiment", "status", "started", "rate", "accuracy")
    for run in list_runs(limit):
        measured = [_number(run.metrics.get(name)) for name in ("regularization rate", "accuracy")]
        started = f"{run.started:%Y-%m-%d %H:%M:%S}"
        table.add_row(run.id[:8], run.name, run.experiment, run.status.lower(), started, *measured)
    Console().print(table)


@group.command()
def show(run: Annotated[str, typer.Argument(help="A run's id, or how it begins.")]) -> None:
    """Show everything that a run recorded."""
    from trainers.tracking import get_run

    found = get_run(run)
    print(f"{found.id}  {found.name}, {found.experiment}, {found.status.lower()}, {found.started:%c}")
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
) -> None:
    """Show runs side by side, rows that differ in bold."""
    from rich.console import Console
    from rich.table import Table

    from trainers.tracking import get_run

    found = [get_run(run) for run in runs]
    table = Table("", *(run.id[:8] for run in found))
    for name, values in _rows(found):
        table.add_row(name, *values, style="bold" if len(set(values)) > 1 else None)
    Console().print(table)


def _rows(runs: list[RunRecord]) -> list[tuple[str, list[str]]]:
    params = sorted({name for run in runs for name in run.params})
    metrics = sorted({name for run in runs for name in run.metrics})
    return [
        ("name", [run.name for run in runs]),
        *((name, [run.params.get(name, "") for run in runs]) for name in params),
        *((name, [_number(run.metrics.get(name)) for run in runs]) for name in metrics),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
