"""How a trainer ends as a program: errors, Ctrl-C, and names that are no text."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from papershell.trainers.program import Interrupted, interruptible, run


def end_of(main, capsys) -> tuple[object, str]:
    """Exit code (or the message that becomes 1) and stderr."""
    with pytest.raises(SystemExit) as end:
        run(main)
    return end.value.code, capsys.readouterr().err


def test_an_error_is_one_sentence(capsys):
    def main():
        raise ValueError("the rate -1 cannot be used")

    assert end_of(main, capsys) == ("error: the rate -1 cannot be used", "")


def test_an_interrupt_says_what_was_kept_and_exits_with_130(capsys):
    def main():
        with interruptible(lambda: "the outer block kept nothing"), interruptible(lambda: "step 7 is kept"):
            raise KeyboardInterrupt

    assert end_of(main, capsys) == (130, "interrupted: step 7 is kept\n")

    def bare():
        raise KeyboardInterrupt

    assert end_of(bare, capsys) == (130, "interrupted\n")


def test_other_errors_pass_an_interruptible_block():
    with pytest.raises(ZeroDivisionError), interruptible(lambda: "nothing"):
        1 / 0  # noqa: B018
    with pytest.raises(Interrupted, match="now"), interruptible(lambda: "now"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["argument", "folder"])
def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path, place):
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(odd)
    out, folder = (odd, tmp_path) if place == "argument" else (b"out", odd)
    command = [
        sys.executable,
        "-m",
        "papershell.orchestration.cli",
        "sweep",
        "--regularization",
        "1",
        "--out",
        out,
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PAPERSHELL_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    assert done.returncode == 1 and done.stdout == b""
    assert b"is not UTF-8" in done.stderr and done.stderr.count(b"\n") == 1
    assert os.listdir(odd) == [] and os.listdir(tmp_path) == [os.fsdecode(b"\xff\xfe")]
