"""Loaded by each Python process of a control script, see `papershell.orchestration.loopback.control`.

Each workspace that the process opens is the served one. Packages of the SDK that are not installed have
stand-ins in the folder beside this file.
"""

import os
import runpy
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.environ.get("PAPERSHELL_CONTROL")


def _take_workspaces(module):
    from papershell.orchestration.loopback.control import take_workspaces

    take_workspaces(_ROOT)


if _HERE in sys.path:
    sys.path.remove(_HERE)
# A process of a run has a run of its own, and the workspace of its token.
if _ROOT and "AZUREML_RUN_ID" not in os.environ:
    _hooks = runpy.run_path(os.path.join(os.path.dirname(_HERE), "process_hooks.py"))
    _hooks["after_import"]("azureml.core.workspace", _take_workspaces)
    sys.path.append(os.path.join(_HERE, "packages"))  # last: what is installed comes first

# This file took the place of the machine's own.
_this = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # noqa: F401
except ModuleNotFoundError:
    sys.modules["sitecustomize"] = _this
