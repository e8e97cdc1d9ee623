"""The command ``papershell``: its subcommands, and one sentence for each error.

Every group of subcommands is a module of `papershell.orchestration.commands` with a function ``register(app)``;
a new module is one more word in `GROUPS`. Such a module imports typer only; what a subcommand needs, it imports
when it runs.
"""

from __future__ import annotations

import gc
import importlib
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import papershell
from papershell.trainers.program import INTERRUPTED, refuse_undecodable

GROUPS = (
    "sweep", "train", "predict", "data", "runs", "models", "submit", "cluster", "workspace", "backends", "bench"
)  # fmt: skip

# Loading MLflow and scikit-learn makes some 300,000 objects that stay; Python's default, a collection
# every 700, spends a second on finding no garbage among them.
COLLECT_AFTER_OBJECTS = 100_000
SWALLOWS_VALUES = "--regularization"
_NUMBER = re.compile(r"[-+]?[.\d][-+.:\deE]*")


class _Interrupted(Exception):
    """Ctrl-C, under a name that typer does not handle itself."""


class _Root(TyperGroup):
    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt as stop:
            raise _Interrupted(str(stop)) from stop


app = typer.Typer(
    name="papershell",
    cls=_Root,
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
    """Run the command; exit with 0 (done), 1 (failed), 2 (wrong use) or 130 (interrupted).

    An error is one sentence on stderr; ``--debug``, anywhere on the line, adds the traceback. A command that
    leaves more than whole files behind an interrupt says so in the KeyboardInterrupt that it raises again.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    arguments, of_a_script = _split(arguments)
    debug = "--debug" in arguments
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    try:
        refuse_undecodable(arguments + of_a_script)
        app(_join_values([word for word in arguments if word != "--debug"]) + of_a_script)
    except (KeyboardInterrupt, _Interrupted) as stop:
        print(f"interrupted: {str(stop) or 'files that were written are whole'}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"error: {_sentence(error, debug)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))  # `bench check` has another meaning for 1
    finally:
        gc.freeze()  # the end of the process frees these objects anyway; a collection would only take time


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split off the words after ``workspace run``: most of them are another program's."""
    for place, words in enumerate(pairwise(arguments), 2):
        if words == ("workspace", "run"):
            return arguments[:place], arguments[place:]
    return arguments, []


def _sentence(error: Exception, debug: bool) -> str:
    """Return what is wrong and what to do; a missing extra counts more than what its absence led to."""
    for cause in _causes(error):
        if isinstance(cause, ModuleNotFoundError) and (extra := extra_with(cause.name or "")):
            return f"{cause.name} is not installed; pip install 'papershell[{extra}]' adds it"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"  # without the system's number
    known = isinstance(error, (ValueError, OSError, RuntimeError)) or debug
    return f"{error}" + ("" if known else f" (unexpected {type(error).__name__}; --debug shows where)")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def extra_with(module: str) -> str | None:
    """Return papershell's extra that installs a module, from the distribution's own metadata; None if none does.

    A distribution has its module's name, with ``py`` before it or more words behind it: yaml is in PyYAML,
    azureml in azureml-core, tensorflow in tensorflow-cpu.
    """
    from importlib import metadata

    name = re.escape(module.partition(".")[0].replace("_", "-"))
    requirement = re.compile(rf"(py)?{name}(-[\w.-]+)?(?![\w.-]).*extra == .(?!test)(\w+)", re.IGNORECASE)
    try:
        lines = metadata.requires("papershell") or []
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return None
    return next((found[3] for line in lines if (found := requirement.match(line))), None)


def _join_values(arguments: list[str]) -> list[str]:
    """Make one value of the numbers after ``--regularization``: an option takes a fixed number of values."""
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
