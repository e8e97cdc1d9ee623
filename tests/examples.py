"""The examples of a Markdown page, run as a reader would run them, and their output compared.

A console block holds commands after ``$ ``, each followed by all that it prints; a Python block holds its output in
comments that begin with ``# -> ``. All blocks of a page share one folder and one Python session. In expected output
``...`` stands for any text, alone on a line for any lines; spaces count as one; numbers may differ by the share that
the comment above the block states. That comment holds clauses separated by semicolons:

    <!-- numbers within 20 %; exits 1; needs mnist; slow -->
    <!-- not run: it needs an Azure account -->
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isclose
from pathlib import Path

BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
CLAUSE = re.compile(
    r"not run: (?P<reason>.+)|numbers within (?P<percent>\d+) %|exits (?P<exit>\d+)"
    r"|needs (?P<data>mnist)|(?P<slow>slow)"
)
PROGRESS = re.compile(r"[\w .-]+: \d+% .*")  # of slow machines only: it appears after some seconds
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
# The Python session of a page: one JSON string of source a line in, one of what it printed out.
SESSION = """
import contextlib, io, json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(json.loads(line), "<example>", "exec"), names)
    print(json.dumps(printed.getvalue()), flush=True)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, text and line in the page, and the clauses of the comment above it."""

    language: str
    text: str
    line: int
    clauses: dict[str, str]


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page; ValueError for a comment above a block that is not understood."""
    for found in BLOCK.finditer(page):
        clauses: dict[str, str] = {}
        comment = found["comment"] or ""
        for words in [comment] if comment.startswith("not run: ") else filter(None, comment.split("; ")):
            if not (clause := CLAUSE.fullmatch(words)):
                raise ValueError(f"{words!r} above a block is none of the clauses of tests/examples.py")
            clauses |= {name: value for name, value in clause.groupdict().items() if value}
        yield Block(found["language"], found["text"], page.count("\n", 0, found.start("text")), clauses)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """(command, expected lines) of a console block; a command goes on after a backslash at a line's end."""
    first, *rest = re.split(r"^\$ ", text, flags=re.M)
    if first.strip():
        raise ValueError(
            f"a console block begins with a command after '$ ', not with {first.splitlines()[0]!r}"
        )
    for piece in rest:
        command, printed = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", piece, re.S).groups()  # type: ignore[union-attr]
        yield command, printed.splitlines()


def agrees(expected: str, printed: str, share: float) -> bool:
    """Whether a printed line is the expected one, its numbers within ``share`` of those expected."""
    parts = re.split(rf"(\.\.\.|{NUMBER})", " ".join(expected.split()))
    numbers = [part for part in parts[1::2] if part != "..."]
    pattern = [
        re.escape(part) if i % 2 == 0 else ".*" if part == "..." else f"({NUMBER})"
        for i, part in enumerate(parts)
    ]
    found = re.fullmatch("".join(pattern), " ".join(printed.split()))
    pairs = zip(numbers, found.groups(), strict=True) if found else ()
    return bool(found) and all(isclose(as_float(a), as_float(b), rel_tol=share) for a, b in pairs)


def as_float(number: str) -> float:
    return float(number.replace(",", ""))


def all_agree(expected: list[str], printed: list[str], share: float) -> bool:
    """`agrees` for all lines; an expected line ``...`` stands for any number of them."""
    if not expected:
        return not printed
    if expected[0].strip() == "...":
        return any(all_agree(expected[1:], printed[i:], share) for i in range(len(printed) + 1))
    return (
        bool(printed)
        and agrees(expected[0], printed[0], share)
        and all_agree(expected[1:], printed[1:], share)
    )


@contextmanager
def python_session(folder: Path) -> Iterator[Callable[[str], str]]:
    """A Python process in ``folder``; the function yielded runs source in it and returns what that printed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SESSION], cwd=folder, **pipes) as process:  # type: ignore[call-overload]

        def run(source: str) -> str:
            process.stdin.write(json.dumps(source) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, f"an error (its traceback is on stderr) ended\n{source}"
            return str(json.loads(answer))

        yield run


def run_block(
    block: Block, folder: Path, python: Callable[[str], str]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Run a block; yield its source, or each of its commands, with the expected lines and the printed ones."""
    if block.language == "python":
        yield block.text, re.findall(r"# -> ?(.*)$", block.text, re.M), python(block.text).splitlines()
        return
    for command, expected in commands(block.text):
        done = subprocess.run(
            command, shell=True, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == int(block.clauses.get("exit", 0)), (
            f"exit {done.returncode}: {command}\n{done.stdout}"
        )
        yield command, expected, [line for line in done.stdout.splitlines() if not PROGRESS.fullmatch(line)]


def check(page: str, folder: Path, may_run: Callable[[Block], bool]) -> None:
    """Run a page's blocks in ``folder``, those that ``may_run`` allows; AssertionError at the first that differs."""
    with python_session(folder) as python:
        for block in blocks(page):
            if block.language not in ("console", "python") or "reason" in block.clauses or not may_run(block):
                continue
            share = int(block.clauses.get("percent", 0)) / 100
            for source, expected, printed in run_block(block, folder, python):
                both = "\n".join(["expected:", *expected, "printed:", *printed])
                assert all_agree(expected, printed, share), f"line {block.line}: {source}\n{both}"
