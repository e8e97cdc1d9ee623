"""An Azure ML workspace served on 127.0.0.1.

`start` finds or starts the service of a folder, `connect` returns a genuine
``azureml.core.Workspace`` on it. POSIX only: runs are process groups.
"""

from papershell.orchestration.loopback.launch import (
    IDENTITY_FILE,
    active_runs,
    clean,
    connect,
    find,
    in_use,
    page_link,
    serve,
    start,
    stop,
)

__all__ = [
    "IDENTITY_FILE",
    "active_runs",
    "clean",
    "connect",
    "find",
    "in_use",
    "page_link",
    "serve",
    "start",
    "stop",
]
