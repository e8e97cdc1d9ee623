"""``papershell train``: one trainer, with that trainer's own flags."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import typer

from papershell.orchestration.catalogue import TRAINERS


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Train one model, with the trainer's own flags.", no_args_is_help=True)
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    for name, trainer in TRAINERS.items():
        group.command(name, help=trainer.summary, context_settings=settings)(_train(trainer.module))
    app.add_typer(group, name="train")


def _train(module: str) -> Callable[[typer.Context], None]:
    def train(context: typer.Context) -> None:
        importlib.import_module(module).main(context.args)

    return train
