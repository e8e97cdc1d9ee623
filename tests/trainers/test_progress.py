"""Progress: a bar on a terminal, plain lines at intervals elsewhere."""

from __future__ import annotations

import io

import papershell.trainers.progress
from papershell.trainers.progress import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(total: float | None) -> None:
    with progress("fetching", total) as update:
        for done in (5, 10):
            update(done, f"{done} MB")


def test_a_log_gets_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(papershell.trainers.progress, "PLAIN_INTERVAL_S", 0)
    work(total=10)
    work(total=None)
    expected = ["fetching: 50% 5 MB", "fetching: 100% 10 MB", "fetching: 5 MB", "fetching: 10 MB"]
    assert capsys.readouterr().err.splitlines() == expected


def test_a_log_of_short_work_gets_none(capsys):
    work(total=10)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    work(total=10)
    assert "fetching" in terminal.getvalue() and "10 MB" in terminal.getvalue()
