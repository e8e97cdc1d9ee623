"""Loaded by each Python process of a run.

It leads the client's blob requests to the service, for the variable that does so has a name that some
shells do not pass on, and azureml-dataprep to the datastores' files. It also sends the metrics that
azureml-core still holds before the process ends: the client logs from a thread of its own and does not wait
for it. On Azure the job's driver does this around the script ("Cleaning up all outstanding Run operations");
scripts rely on it.
"""

import concurrent.futures.thread  # noqa: F401  (its end is registered first, and so comes after ours)
import contextlib
import io
import json
import os
import runpy
import sys
import threading

_TIMEOUT_S = 300


def _send_held_metrics() -> None:
    module = sys.modules.get("azureml._run_impl.run_base")
    if module is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            module._RunBase._kill(timeout=_TIMEOUT_S)


_name, _, _address = os.environ.get("PAPERSHELL_BLOB_PROXY", "").partition("=")
if _name:
    os.environ[_name] = _address

# By its place: the run's own papershell may come first on the path, and lack it.
_hooks = runpy.run_path(os.path.join(os.path.dirname(os.path.dirname(__file__)), "process_hooks.py"))
_hooks["find_datastores_here"](json.loads(os.environ.get(_hooks["VARIABLE"], "{}")))

# `atexit` would come too late: the client's threads have been ended by then.
threading._register_atexit(_send_held_metrics)  # type: ignore[attr-defined]
