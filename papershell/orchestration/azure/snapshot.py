"""The source folders that travel with a job, measured before they are sent."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "papershell"
STAYS = ("orchestration", "benchmarks")  # rooms of the package that no job needs
# azureml._restclient.constants: SNAPSHOT_MAX_SIZE_BYTES, SNAPSHOT_MAX_FILES
MAX_BYTES = 300 * 1024 * 1024
MAX_FILES = 2000
_NEVER = ("__pycache__",)


@dataclass(frozen=True)
class Snapshot:
    """The files of a snapshot: POSIX names below ``root``, with sizes; links are listed apart."""

    root: Path
    sizes_bytes: dict[str, int]
    links: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(self.sizes_bytes.values())

    def largest(self, count: int = 3) -> list[str]:
        """Return the names of the largest files."""
        return sorted(self.sizes_bytes, key=lambda name: -self.sizes_bytes[name])[:count]


def source_root() -> Path:
    """Return the folder in which the package papershell lies."""
    return Path(__file__).resolve().parents[3]


def measure(root: Path) -> Snapshot:
    """Return what a snapshot of the package papershell below ``root`` would hold: kernels and trainers.

    ``.amlignore`` of ``root`` is honoured, or ``.gitignore`` where there is none, as azureml-core does.
    """
    ignored = _ignored(root)
    sizes, links = {}, []
    for top, folders, names in os.walk(root / PACKAGE):
        left = (*_NEVER, *STAYS) if Path(top) == root / PACKAGE else _NEVER
        folders[:] = sorted(name for name in folders if name not in left)
        for name in sorted(names):
            path = Path(top) / name
            relative = path.relative_to(root).as_posix()
            if ignored(relative):
                continue
            if path.is_symlink():
                links.append(relative)
            else:
                sizes[relative] = path.stat().st_size
    return Snapshot(root, sizes, tuple(links))


def stage(snapshot: Snapshot, folder: Path) -> None:
    """Copy the files of a snapshot into an empty ``folder``, which is then what is submitted."""
    for name in snapshot.sizes_bytes:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(snapshot.root / name, target)


def _ignored(root: Path):
    import pathspec

    for name in (".amlignore", ".gitignore"):
        if (root / name).is_file():
            lines = (root / name).read_text(encoding="utf-8").splitlines()
            return pathspec.PathSpec.from_lines("gitwildmatch", lines).match_file
    return lambda relative: False
