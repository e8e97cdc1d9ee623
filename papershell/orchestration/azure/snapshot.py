"""The source folders that travel with a job, measured before they are sent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "papershell"
STAYS = ("orchestration", "benchmarks")  # rooms of the package that a job does not need
# azureml._restclient.constants: SNAPSHOT_MAX_SIZE_BYTES, SNAPSHOT_MAX_FILES
MAX_BYTES = 300 * 1024 * 1024
MAX_FILES = 2000


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
    """Return the folder in which the package papershell lies: of a checkout, or of an installation."""
    return Path(__file__).resolve().parents[3]


def measure(root: Path | None = None) -> Snapshot:
    """Return the snapshot of the package papershell below ``root``: its kernels and trainers.

    ``.amlignore`` of ``root`` is honoured, or ``.gitignore`` if there is none, as azureml-core does.

    Parameters
    ----------
    root : None takes the papershell that runs.
    """
    root = root or source_root()
    ignored = _ignored(root)
    sizes, links = {}, []
    for top, folders, names in os.walk(root / PACKAGE):
        stays = STAYS if Path(top) == root / PACKAGE else ()
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", *stays))
        for path in (Path(top) / name for name in sorted(names)):
            relative = path.relative_to(root).as_posix()
            if not ignored(relative) and path.is_symlink():
                links.append(relative)
            elif not ignored(relative):
                sizes[relative] = path.stat().st_size
    return Snapshot(root, sizes, tuple(links))


def stage(snapshot: Snapshot, folder: Path) -> None:
    """Copy the files of a snapshot into ``folder``, which is then submitted."""
    for name in snapshot.sizes_bytes:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(snapshot.root / name, target)


def _ignored(root: Path) -> Callable[[str], bool]:
    import pathspec

    for name in (".amlignore", ".gitignore"):
        if (root / name).is_file():
            lines = (root / name).read_text(encoding="utf-8").splitlines()
            return pathspec.PathSpec.from_lines("gitwildmatch", lines).match_file
    return lambda relative: False
