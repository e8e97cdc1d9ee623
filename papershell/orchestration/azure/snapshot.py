"""The files that travel with a job, chosen and measured before they are sent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from papershell.orchestration.errors import OrchestrationError

# azureml._restclient.constants: SNAPSHOT_MAX_SIZE_BYTES, SNAPSHOT_MAX_FILES
MAX_BYTES = 300 * 1024 * 1024
MAX_FILES = 2000
IGNORE_FILES = (".amlignore", ".gitignore")  # the first that exists counts, as for azureml-core
NEVER = (".git", "__pycache__", ".ipynb_checkpoints")


@dataclass(frozen=True)
class Snapshot:
    """The files of a snapshot: POSIX names below ``root``, with sizes."""

    root: Path
    sizes_bytes: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(self.sizes_bytes.values())

    def largest(self, count: int = 3) -> list[str]:
        """Return the names of the largest files."""
        return sorted(self.sizes_bytes, key=lambda name: -self.sizes_bytes[name])[:count]


def measure(root: Path, ignore: Sequence[str] = ()) -> Snapshot:
    """Return the snapshot of a folder by azureml-core's rules (``azureml._project.ignore_file``, ``merkle_tree``).

    ``.amlignore`` of the folder is honoured, or ``.gitignore`` if there is none; links are followed. `NEVER` adds
    what git and Python keep for themselves.

    Parameters
    ----------
    ignore : further lines in gitignore's words, before those of the file.

    Raises
    ------
    OrchestrationError
        The folder is missing or holds something that cannot be sent, or its ignore file cannot be read.
    """
    if not root.is_dir():
        raise OrchestrationError(
            f"there is no source folder {root}; name the folder of the code with --source"
        )
    return Snapshot(root, file_sizes(root, _ignored(root, ignore)))


def file_sizes(folder: Path, ignored: Callable[[str], bool] = lambda name: False) -> dict[str, int]:
    """Return the size in bytes of every file below ``folder``, by its POSIX name; links are followed.

    Raises
    ------
    OrchestrationError
        A link leads nowhere or to a folder above it, or something is neither a file nor a folder.
    """
    return dict(_walk(folder, "", ignored, (os.path.realpath(folder),)))


def _walk(
    folder: Path, prefix: str, ignored: Callable[[str], bool], above: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        name = prefix + entry.name
        if ignored(name):
            continue
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if real in above:
                raise OrchestrationError(f"{entry.path} is a link to a folder that it lies in; remove it")
            yield from _walk(Path(entry.path), f"{name}/", ignored, (*above, real))
        elif entry.is_file():
            yield name, entry.stat().st_size
        else:
            kind = "a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder"
            raise OrchestrationError(f"{entry.path} is {kind}; remove it")


def stage(snapshot: Snapshot, folder: Path) -> None:
    """Copy the files of a snapshot into ``folder``, which is then submitted."""
    for name in snapshot.sizes_bytes:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(snapshot.root / name, target)


def _ignored(root: Path, lines: Sequence[str]) -> Callable[[str], bool]:
    import pathspec

    file = next((root / name for name in IGNORE_FILES if (root / name).is_file()), None)
    try:
        own = file.read_text(encoding="utf-8").splitlines() if file else []
        return pathspec.PathSpec.from_lines("gitwildmatch", [*lines, *own, *NEVER]).match_file
    except ValueError as error:  # also of bytes that are not UTF-8
        raise OrchestrationError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
