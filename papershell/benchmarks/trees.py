"""Checkouts of a repository: what a comparison of two commits runs in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class TreeError(ValueError):
    """There is no such commit or repository; the message says what to do."""


def repository_of(folder: Path) -> Path:
    """Return the root of the checkout that a folder lies in.

    Raises
    ------
    TreeError
        It lies in none.
    """
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel")).resolve()
    except TreeError:
        raise TreeError(
            f"{folder} lies in no git repository, so there is no commit to compare with; start in a checkout"
        ) from None


def commit_of(repository: Path, name: str) -> str:
    """Return the full id of the commit that a name stands for.

    Raises
    ------
    TreeError
        There is no such commit.
    """
    try:
        return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except TreeError:
        raise TreeError(f"{name!r} is no commit of {repository}; `git log` lists them") from None


def commits_between(repository: Path, good: str, bad: str) -> list[str]:
    """Return the commits after ``good`` up to ``bad``, oldest first, along first parents.

    Raises
    ------
    TreeError
        ``good`` is no ancestor of ``bad``.
    """
    commits = _git(repository, "rev-list", "--first-parent", "--reverse", f"{good}..{bad}").split()
    if not commits or _git(repository, "merge-base", good, bad) != good:
        raise TreeError(f"{good[:10]} is no commit before {bad[:10]}; name the older one first")
    return commits


def subject_of(repository: Path, commit: str) -> str:
    """Return a commit's short id and the first line of its message."""
    return _git(repository, "log", "-1", "--format=%h %s", commit)


def page_of(folder: Path) -> str | None:
    """Return the address of the page of the repository that a folder lies in, by its remote ``origin``; None without.

    User names, and passwords in the remote's address, stay out.
    """
    try:
        remote = _git(folder, "remote", "get-url", "origin")
    except TreeError:
        return None
    found = re.fullmatch(
        r"(?:(?:https|ssh)://(?:[^@/]+@)?|git@)([\w.-]+)(?::\d+)?[/:]([\w./-]+?)(?:\.git)?/?", remote
    )
    return f"https://{found[1]}/{found[2]}" if found else None


@contextmanager
def checkout(repository: Path, commit: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder, and remove it afterwards, also after an error."""
    with tempfile.TemporaryDirectory(prefix="papershell-bench-", ignore_cleanup_errors=True) as folder:
        tree = Path(folder).resolve() / "tree"
        try:
            _git(repository, "worktree", "add", "--quiet", "--detach", str(tree), commit)
            yield tree
        finally:
            with suppress(TreeError):  # it was not added
                _git(repository, "worktree", "remove", "--force", "--force", str(tree))


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Let SIGTERM end this process as an exception does, so that its checkouts are removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def search_path(repository: Path, tree: Path) -> str:
    """Return PYTHONPATH for a process that shall import from ``tree`` what this one imports from ``repository``.

    The tree comes first, then its folders that are on this process's path (``src``, say), then all of PYTHONPATH that
    lies elsewhere.
    """
    paths = [Path(entry).resolve() for entry in sys.path if entry]
    inside = [tree / path.relative_to(repository) for path in paths if path.is_relative_to(repository)]
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    outside = [entry for entry in given if not Path(entry).resolve().is_relative_to(repository)]
    kept = dict.fromkeys([str(tree), *(str(path) for path in inside if path.is_dir()), *outside])
    return os.pathsep.join(kept)


def _git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it printed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise TreeError("git is not installed; two commits are compared by checking both out") from error
    if done.returncode:
        raise TreeError(f"git {arguments[0]}: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()
