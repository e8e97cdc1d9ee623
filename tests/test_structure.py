"""Rules of the house that no other tool holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "papershell"
ASKS_FOR_DEVICES = re.compile(
    r"cuda\.is_available|device_count\(|getDevice(Count|Properties)|list_physical_devices|get_device_capability"
    r"|sched_getaffinity"
)
ALLOWED = {"kernels/backends.py"}
STILL_ASKING = {  # to be taken out of this list, file by file
    "kernels/logreg/on_torch.py",
    "kernels/logreg/ranks.py",
    "kernels/cifar10_net/on_torch.py",
    "benchmarks/test_normalize.py",
    "benchmarks/solver_gpu.py",
}
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_one_file_asks_which_devices_exist(name):
    asking = ASKS_FOR_DEVICES.search((PACKAGE / name).read_text(encoding="utf-8"))
    assert not asking or name in ALLOWED | STILL_ASKING, f"{asking[0]}: ask papershell.kernels.backends"
