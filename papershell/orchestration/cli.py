"""The command ``papershell``: what exists, how errors look, and nothing else.

Every group of subcommands is a module of `papershell.orchestration.commands` with a function ``register(app)``;
adding one is a line in `GROUPS`. Such a module imports typer only, and what a subcommand needs when it runs.
"""

from __future__ import annotations

import gc
import importlib
import re
import sys
import traceback
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated

import typer

import papershell

GROUPS = ("sweep", "train", "predict", "data", "runs", "models", "azure", "backends", "bench")

# Loading MLflow and scikit-learn makes some 300,000 objects that stay; Python's default, a collection
# every 700, spends a second on finding no garbage among them.
COLLECT_AFTER_OBJECTS = 100_000
SWALLOWS_VALUES = "--regularization"
_NUMBER = re.compile(r"[-+]?[.\d][-+.:\deE]*")

app = typer.Typer(
    name="papershell",
    help="Train image classifiers: a fast compute core under a thin shell.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"papershell {papershell.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train image classifiers: a fast compute core under a thin shell."""


for _group in GROUPS:
    importlib.import_module(f"papershell.orchestration.commands.{_group}").register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 0 (done), 1 (failed) or 2 (wrong use).

    An error is one sentence on stderr; ``--debug``, anywhere on the line, adds the traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    try:
        app(_join_values([word for word in arguments if word != "--debug"]))
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = isinstance(error, (ValueError, OSError, RuntimeError))
        hint = "" if known or debug else f" (unexpected {type(error).__name__}; --debug shows where)"
        print(f"error: {_sentence(error)}{hint}", file=sys.stderr)
        sys.exit(1)
    finally:
        gc.freeze()  # nor is anything gained from collecting what the end of the process frees


def _sentence(error: Exception) -> str:
    """The system's own errors come with a number that helps nobody."""
    named = isinstance(error, OSError) and error.strerror and error.filename
    return f"{error.filename}: {error.strerror}" if named else str(error)  # type: ignore[attr-defined]


def _join_values(arguments: list[str]) -> list[str]:
    """Make one value of the numbers after ``--regularization``: an option takes a fixed number of them."""
    joined: list[str] = []
    rest = iter(arguments)
    for word in rest:
        joined.append(word)
        if word == SWALLOWS_VALUES:
            following = list(rest)
            values = list(takewhile(_NUMBER.fullmatch, following))
            joined += [" ".join(values)] * bool(values) + _join_values(following[len(values) :])
    return joined


if __name__ == "__main__":
    main()
