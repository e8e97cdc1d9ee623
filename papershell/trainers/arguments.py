"""Flags that the trainers share, and the values that they take."""

from __future__ import annotations

import argparse

from papershell.trainers import SEED


def positive(text: str) -> int:
    """Return ``text`` as a whole number above zero; argparse reports any other text."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def add_training_flags(parser: argparse.ArgumentParser, *, every: int | None, unit: str) -> None:
    """Add the flags of every network's training, among them a checkpoint ``every`` so many of ``unit``."""
    add = parser.add_argument
    add("--seed", type=int, default=SEED, help=f"of weights and order (default: {SEED})")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    add("--checkpoint-every", type=positive, default=every, metavar="N", help=f"save every N {unit}")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    add("--name", help="register the model under this name (default: by the data)")
    add_output_flags(parser, "model and checkpoint")


def add_output_flags(parser: argparse.ArgumentParser, content: str) -> None:
    """Add the flags for the folder of a trainer's files (``content``) and for replacing another model's."""
    parser.add_argument("--out", default="outputs", help=f"folder for {content} (default: outputs)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a model there that was made from other data"
    )
