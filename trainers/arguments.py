"""Command-line values that the trainers share."""

from __future__ import annotations

import argparse

SEED = 42  # the walk-throughs' own, where nothing else is said


def positive(text: str) -> int:
    """Return the whole number above zero that ``text`` is; argparse reports what it is not."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)
