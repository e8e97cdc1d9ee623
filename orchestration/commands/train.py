"""``papershell train``: one trainer, with that trainer's own flags."""

from __future__ import annotations

import importlib

import typer

TRAINERS = {"logreg": "Logistic regression, as in the walk-through on MNIST."}


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Train one model, with the trainer's own flags.", no_args_is_help=True)
    for name, summary in TRAINERS.items():
        settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
        group.command(name, help=summary, context_settings=settings)(_runs(f"trainers.{name}"))
    app.add_typer(group, name="train")


def _runs(module: str):
    def train(context: typer.Context) -> None:
        importlib.import_module(module).main(context.args)

    return train
