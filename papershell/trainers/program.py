"""A trainer as a program: an error ends it with one sentence, Ctrl-C with one on the files that are kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

INTERRUPTED = 130  # the exit code after Ctrl-C, 128 + SIGINT, as shells have it


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message is one sentence on the results that are kept and the processes that run on."""


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C leave the block as `Interrupted`, with the sentence that ``kept`` returns at that moment."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as stop:
        raise Interrupted(kept()) from stop


def refuse_undecodable(words: Sequence[str]) -> None:
    """Raise ValueError if a word of the command line or the current folder is not UTF-8.

    Records and tables take text only; without this, a command would fail in the middle of its work.
    """
    for text in (*words, os.getcwd()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the name {os.fsencode(text)!r} is not UTF-8, which records and tables need; rename it"
            ) from error


def run(main: Callable[[], None]) -> None:
    """Run a trainer's ``main``: exit with 1 after an error, with 130 after Ctrl-C, one line on stderr each."""
    try:
        refuse_undecodable(sys.argv)
        main()
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}" if str(stop) else "interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
