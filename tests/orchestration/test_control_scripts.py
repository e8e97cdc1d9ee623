"""Control scripts as users write them for Azure, one for each part of the SDK, unchanged: ``make control-scripts``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "control_scripts"
SHARED = ("cluster.py", "data.py")
CHEAP = ("file_dataset.py",)
RUN = (sys.executable, "-m", "papershell.orchestration.cli", "workspace", "run", "--root")
NAMES = sorted(path.name for path in SCRIPTS.iterdir() if path.is_file() and path.name not in SHARED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the scripts: they write beside themselves."""
    return Path(shutil.copytree(SCRIPTS, tmp_path_factory.mktemp("control") / "scripts"))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in CHEAP else pytest.mark.slow) for n in NAMES]
)
def test_a_control_script_runs_unchanged(name, root, folder):
    done = subprocess.run([*RUN, str(root), name], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / name).suffix == ".ipynb" or (folder / name).read_bytes() == (SCRIPTS / name).read_bytes()
