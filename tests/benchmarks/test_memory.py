"""The memory of a call, against what the call takes by its own account; and where a repository's page lies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from papershell.benchmarks import memory
from papershell.benchmarks.memory import watched
from papershell.benchmarks.trees import page_of

SIZE_BYTES, PAGE_BYTES = 64 << 20, 4096


def test_the_peak_is_what_a_call_takes_at_most_at_once() -> None:
    def call() -> int:
        np.ones(SIZE_BYTES, np.uint8)  # freed again
        np.ones(SIZE_BYTES // 2, np.uint8)
        return 7

    result, facts = watched(call)
    assert result == 7
    assert facts["peak_bytes"] == pytest.approx(SIZE_BYTES, rel=0.1)
    assert (
        0 < facts["page_faults"] <= 2 * 1.5 * SIZE_BYTES / PAGE_BYTES
    )  # fewer if the kernel gives large pages


def test_memory_that_is_there_already_is_no_growth() -> None:
    held = np.ones(SIZE_BYTES, np.uint8)
    _, facts = watched(lambda: held.fill(2))
    assert facts["peak_bytes"] < SIZE_BYTES / 10


def test_a_system_that_does_not_tell_leaves_both_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "absent")
    assert watched(lambda: 3) == (3, {})


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b"),
        ("https://user:secret@example.org/a/b", "https://example.org/a/b"),
        ("git@example.org:a/b.git", "https://example.org/a/b"),
        ("ssh://git@example.org:22/a/b.git", "https://example.org/a/b"),
        ("/srv/git/b.git", None),
        ("https://example.org/a b", None),
    ],
)
def test_a_remote_leads_to_its_page_without_a_password(tmp_path: Path, remote: str, page: str | None) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert page_of(tmp_path) is None
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    assert page_of(tmp_path) == page
