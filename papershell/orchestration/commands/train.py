"""``papershell train``: one trainer, with that trainer's own flags."""

from __future__ import annotations

import importlib

import typer

from papershell.orchestration.azure.job import TRAINERS


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Train one model, with the trainer's own flags.", no_args_is_help=True)
    for name, trainer in TRAINERS.items():
        settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
        group.command(name, help=trainer.summary, context_settings=settings)(_runs(name))
    app.add_typer(group, name="train")


def _runs(name: str):
    def train(context: typer.Context) -> None:
        try:
            trainer = importlib.import_module(TRAINERS[name].module)
        except ModuleNotFoundError as error:
            extra = name.partition("-")[0]
            raise RuntimeError(
                f"{error.name} is not installed; pip install 'papershell[{extra}]' adds it"
            ) from error
        trainer.main(context.args)

    return train
