"""Command lines that the trainers share: values, flags, and how an error ends the program."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

SEED = 42  # the walk-throughs' own, where nothing else is said


def positive(text: str) -> int:
    """Return the whole number above zero that ``text`` is; argparse reports what it is not."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def add_training_flags(parser: argparse.ArgumentParser, *, every: int | None, unit: str) -> None:
    """Add what every network's training understands: a checkpoint ``every`` so many of ``unit``."""
    add = parser.add_argument
    add("--seed", type=int, default=SEED, help=f"of weights and order (default: {SEED})")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    add("--checkpoint-every", type=positive, default=every, metavar="N", help=f"save every N {unit}")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    add("--out", default="outputs", help="folder for model and checkpoint (default: outputs)")


def run(main: Callable[[], None]) -> None:
    """Run a trainer's ``main`` as a program: an error is one sentence on stderr and exit code 1."""
    try:
        main()
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
