"""The source folders that travel with a job, measured before they are sent."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("kernels", "trainers")
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
    """Return the folder in which papershell's own source folders lie."""
    return Path(__file__).resolve().parent.parent


def measure(root: Path) -> Snapshot:
    """Return what a snapshot of the source folders of ``root`` would hold.

    ``.amlignore`` of ``root`` is honoured, or ``.gitignore`` where there is none, as azureml-core does.
    """
    ignored = _ignored(root)
    sizes, links = {}, []
    for folder in FOLDERS:
        for top, folders, names in os.walk(root / folder):
            folders[:] = sorted(name for name in folders if name not in _NEVER)
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
