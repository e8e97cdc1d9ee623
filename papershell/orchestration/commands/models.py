"""``papershell models``: the registry of trained models, and their export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from papershell.orchestration.commands.options import Records
from papershell.orchestration.commands.record_store import models_of
from papershell.orchestration.table import print_table

group = typer.Typer(help="List, register, download and export models.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="models")


@group.command("list")
def list_(workspace: Records = "") -> None:
    """List every version of every registered model, newest first."""
    rows = [
        (m.name, m.id, m.version, f"{m.created:%Y-%m-%d %H:%M:%S}")
        for m in models_of(workspace).list_models()
    ]
    print_table(("name", "id", "version", "registered"), rows)


@group.command("register")
def register_(
    name: Annotated[str, typer.Argument(help="The name to register under, as in sklearn_mnist.")],
    files: Annotated[list[Path], typer.Argument(help="The model's files.", exists=True, dir_okay=False)],
    workspace: Records = "",
) -> None:
    """Register files as the next version of a model."""
    model = models_of(workspace).register_model(name, files)
    print(f"registered {model.name}, id {model.id}, version {model.version}")


@group.command()
def download(
    name: Annotated[str, typer.Argument(help="The registered name.")],
    version: Annotated[str | None, typer.Option(help="Which version (default: the newest).")] = None,
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("model"),
    workspace: Records = "",
) -> None:
    """Copy the files of a registered model into a folder."""
    for path in models_of(workspace).download_model(name, version, out):
        print(f"wrote {path}")


@group.command()
def export(
    model: Annotated[Path, typer.Argument(help="The .npz file of a logistic regression.")],
    out: Annotated[Path | None, typer.Option(help="The .onnx file (default: beside MODEL).")] = None,
) -> None:
    """Write a logistic regression as an ONNX file, for other runtimes and languages."""
    from papershell.trainers.linear_model import LinearModel
    from papershell.trainers.onnx_model import write_onnx

    path = out or model.with_suffix(".onnx")
    write_onnx(path, LinearModel.load(model))
    print(f"wrote {path}")
