"""A user's control script or notebook, written for Azure, against the workspace of a folder: unchanged.

The script is a process as ``python SCRIPT`` starts it. The variable PAPERSHELL_CONTROL names the folder, and
``incontrol/sitecustomize.py``, first on PYTHONPATH, makes the workspaces of this process and of its children the
served one (`take_workspaces`). Nothing else is changed, and nothing is left behind.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from papershell.orchestration.errors import OrchestrationError
from papershell.orchestration.loopback.launch import active_runs, find, in_use

VARIABLE = "PAPERSHELL_CONTROL"
_IN_CONTROL = Path(__file__).parent / "incontrol"
_NOTEBOOK_MODULES = ("nbclient", "ipykernel")


def run_control(root: Path, words: Sequence[str]) -> int:
    """Run a control script on the workspace of ``root``, which is served meanwhile.

    Parameters
    ----------
    words : ``SCRIPT.py flags...``, ``-m MODULE flags...`` or ``NOTEBOOK.ipynb``, whose outputs it then holds.

    Returns
    -------
    int
        The exit code of the script; 128 and the signal's number if a signal ended it.

    Raises
    ------
    OrchestrationError
        There is no such script, or it cannot be run; or the service does not start.
    """
    command = _command(words)
    with in_use(root):
        code = _run(command, _variables(root))
        if runs := active_runs(root):
            print(f"{runs} run(s) go on; the service ends when they have ended", file=sys.stderr)
    return code if code >= 0 else 128 - code


def _command(words: Sequence[str]) -> list[str]:
    """Return the command line that Python itself would be given."""
    if words[0] == "-m":
        if len(words) == 1:
            raise OrchestrationError("-m names no module; give one, as in -m package.module")
        return [sys.executable, *words]
    script = Path(words[0])
    if not script.exists():
        raise OrchestrationError(f"there is no {script}; name a script, a notebook, or -m and a module")
    if script.suffix != ".ipynb":
        return [sys.executable, *words]
    if len(words) > 1:
        raise OrchestrationError(f"a notebook takes no flags; leave out {' '.join(words[1:])}")
    for module in _NOTEBOOK_MODULES:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"{module} is not installed", name=module)
    return [sys.executable, "-m", "papershell.orchestration.loopback.notebook", str(script)]


def _variables(root: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(_IN_CONTROL), os.environ.get("PYTHONPATH"))))
    return os.environ | {VARIABLE: str(root.resolve()), "PYTHONPATH": path}


def _run(command: Sequence[str], variables: dict[str, str]) -> int:
    """Run a command to its end; return its code, negative for a signal. Signals end the command, not this process."""
    process = subprocess.Popen(command, env=variables)
    with _handing_on(process):
        return process.wait()


@contextmanager
def _handing_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave Ctrl-C to the command, which the terminal interrupts too, and hand SIGTERM on to it."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def take_workspaces(root: str) -> None:
    """Make the served workspace of ``root`` every workspace that this process opens.

    Raises
    ------
    OrchestrationError
        The service has ended.
    """
    from papershell.orchestration.loopback.client import take_every_workspace

    address = find(root)
    if address is None:
        raise OrchestrationError(f"the loopback service of {root} has ended; start the script again")
    take_every_workspace(address.url, address.token, Path(root))
