"""The repository as a whole: links, imports, length of the README, no trace of the machine it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = (
    *("kernels", "trainers", "orchestration", "benchmarks"),
    *("environment-cpu.yml", "environment-gpu.yml"),
)
MOST_README_LINES = 150
# A developer's folders; written apart so that this file does not hold them.
PRIVATE_PATH = re.compile(
    r"(?<![\w.])/(?:" + "|".join(("home", "root", "Users", "work", "workspace")) + r")/\w"
)


def tracked() -> list[Path]:
    """Every file under version control; without git (a source distribution), every file."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        return [ROOT / name for name in done.stdout.split("\0") if name]
    made = re.compile(r"\..*|__pycache__|.*\.egg-info")  # environments and caches
    return [path for path in ROOT.rglob("*") if not any(map(made.fullmatch, path.relative_to(ROOT).parts))]


def test_the_links_at_the_top_point_into_the_package() -> None:
    links = {path.name: path for path in tracked() if path.is_symlink()}
    if not links:
        pytest.skip("this copy of the sources was made without links")
    assert set(links) == set(LINKS)
    for path in links.values():
        assert (
            path.resolve(strict=True).is_relative_to(ROOT / "papershell")
            and not path.readlink().is_absolute()
        )


def test_nothing_imports_through_a_link() -> None:
    through = re.compile(r"^\s*(?:from|import) (?:kernels|trainers|orchestration|benchmarks)\b", re.MULTILINE)
    for path in tracked():
        if path.suffix == ".py" and path.is_file():
            assert not through.search(path.read_text()), path


@pytest.mark.parametrize("name", ["Makefile", ".ci/run", ".github/workflows/nightly.yml"])
def test_no_command_reaches_through_a_link(name: str) -> None:
    """Git adds no file through a link, and a checkout may have none."""
    through = re.compile(rf"(?<![\w/.-])(?:{'|'.join(LINKS)})/")
    assert not through.search((ROOT / name).read_text())


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    for path in tracked():
        if path.is_file() and path.suffix != ".png":
            found = PRIVATE_PATH.search(path.read_text(errors="replace"))
            assert not found, f"{path}: {found.group()}"


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_README_LINES


ASKS_FOR_DEVICES = re.compile(
    r"cuda\.is_available|device_count\(|getDevice(Count|Properties)|list_physical_devices|get_device_capability"
    r"|sched_getaffinity"
)
SOURCES = sorted(
    path.relative_to(ROOT / "papershell").as_posix() for path in (ROOT / "papershell").rglob("*.py")
)


@pytest.mark.parametrize("name", SOURCES)
def test_one_file_asks_which_devices_exist(name: str) -> None:
    asking = ASKS_FOR_DEVICES.search((ROOT / "papershell" / name).read_text(encoding="utf-8"))
    assert not asking or name == "kernels/backends.py", f"{asking[0]}: ask papershell.kernels.backends"
