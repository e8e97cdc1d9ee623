"""Flags that the trainers share, and the values that they take."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Sequence
from typing import NoReturn

from papershell.trainers import SEED


def positive(text: str) -> int:
    """Return ``text`` as a whole number above zero; argparse reports any other text."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def positive_number(text: str) -> float:
    """Return ``text`` as a finite number above zero; argparse reports any other text."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return number


def check_flags(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Return the flags of a program that is to run elsewhere.

    Raises
    ------
    ValueError
        The parser would refuse them; the message says which, and names a flag that may have been meant.
    """

    def refuse(message: str) -> NoReturn:
        wrong = next((word for word in words if word.startswith("--") and word in message), "")
        similar = difflib.get_close_matches(wrong.partition("=")[0], parser._option_string_actions, n=1)
        unknown = message.startswith("unrecognized") and similar
        raise ValueError(f"{message}; did you mean {similar[0]}?" if unknown else message)

    parser.error = refuse  # type: ignore[method-assign]  # argparse would end the process
    return parser.parse_args(words)


def add_training_flags(parser: argparse.ArgumentParser, *, every: int | None, unit: str) -> None:
    """Add the flags of every network's training, among them a checkpoint ``every`` so many of ``unit``."""
    add = parser.add_argument
    add("--seed", type=int, default=SEED, help=f"of weights and order (default: {SEED})")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    add("--checkpoint-every", type=positive, default=every, metavar="N", help=f"save every N {unit}")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    add_output_flags(parser, "model and checkpoint")


def add_output_flags(parser: argparse.ArgumentParser, content: str) -> None:
    """Add the flags for a trainer's files (``content``): their folder, the model's name, and replacing another's."""
    parser.add_argument("--name", help="register the model under this name (default: by the data)")
    parser.add_argument("--out", default="outputs", help=f"folder for {content} (default: outputs)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a model there that was made from other data"
    )
