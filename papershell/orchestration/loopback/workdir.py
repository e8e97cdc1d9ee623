"""The working folder and the logs of one run."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from papershell.orchestration.loopback.store import Document
from papershell.orchestration.loopback.stored_files import inside, regular_files

_QUOTED_LINES = 20
_QUOTED_BYTES = 8192


def unpack(files: Mapping[str, str], snapshots: Path, folder: Path) -> None:
    """Lay the files of a snapshot (name to blob) into ``folder``, beside empty ``outputs`` and ``logs``.

    Raises
    ------
    werkzeug.exceptions.BadRequest
        A name would leave the folder.
    """
    folder.mkdir(parents=True)
    for name, blob in files.items():
        place = inside(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(snapshots / blob, place)
    _make_places(folder)


def take(source: Path, folder: Path) -> None:
    """Move the folder that the client made for a local run to ``folder``, without what it needed to start it."""
    folder.parent.mkdir(parents=True)
    shutil.move(source, folder)
    shutil.rmtree(folder / "azureml-setup", ignore_errors=True)
    (folder / "invocation.zip").unlink(missing_ok=True)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)  # the client made it for all to read
    _make_places(folder)


def _make_places(folder: Path) -> None:
    for name in ("outputs", "logs"):
        (folder / name).mkdir(exist_ok=True)


def note(artifacts: Path, configuration: Document, commands: Sequence[Sequence[str]]) -> None:
    """Note in the run's own log which Python and which machine stand for the environment and the cluster."""
    environment = (configuration.get("environment") or {}).get("name")
    (artifacts / "system_logs").mkdir(parents=True, exist_ok=True)
    lines = [
        f"Environment {environment!r} is not built here: the run uses {sys.executable}.",
        f"Compute target {configuration.get('target')!r} is this machine.",
        *(shlex.join(command) for command in commands),
    ]
    (artifacts / "system_logs" / "loopback.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def log_files(artifacts: Path, count: int) -> list[Path]:
    """Return the log file of each node, named as Azure ML's common runtime names them."""
    folder = artifacts / "user_logs"
    folder.mkdir(parents=True, exist_ok=True)
    names = ["std_log.txt"] if count == 1 else [f"std_log_process_{rank:02}.txt" for rank in range(count)]
    for name in names:
        (folder / name).touch()
    return [folder / name for name in names]


def outcome(nodes: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> tuple[str, str | None]:
    """Return the final state that the nodes' exit codes mean, and the reason of a failure."""
    for rank, (node, log) in enumerate(zip(nodes, logs, strict=True)):
        if node.returncode > 0 or (node.returncode < 0 and not any(n.returncode > 0 for n in nodes)):
            how = (
                f"exit code {node.returncode}"
                if node.returncode > 0
                else f"signal {signal.Signals(-node.returncode).name}"
            )
            return "Failed", f"node {rank} ended with {how}; the end of its log:\n{_tail(log)}"
    return "Completed", None


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _QUOTED_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_QUOTED_LINES:])


def collect(code: Path, artifacts: Path) -> None:
    """Keep the files that the run wrote below ``outputs/`` and ``logs/``; links are not followed."""
    for name in ("outputs", "logs"):
        for path in regular_files(code / name):
            place = artifacts / path.relative_to(code)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def remove_ended(runs: Path, under_way: Collection[str], older_than_s: float) -> int:
    """Remove the working folders of ended runs that began ``older_than_s`` seconds ago; return the bytes freed."""
    freed = 0
    for folder in runs.iterdir() if runs.exists() else ():
        if folder.name not in under_way and time.time() - folder.stat().st_mtime >= older_than_s:
            freed += sum(path.stat().st_size for path in regular_files(folder))
            shutil.rmtree(folder)
    return freed
