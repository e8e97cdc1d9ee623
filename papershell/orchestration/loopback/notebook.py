"""``python -m papershell.orchestration.loopback.notebook FILE.ipynb``: execute its cells, and keep their outputs in it.

As ``jupyter nbconvert --execute --inplace`` does; but the outputs are kept after an error or Ctrl-C too, and the
kernel is this Python whatever kernel the notebook names.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from papershell.kernels.files import replacing
from papershell.trainers.program import INTERRUPTED


def execute(path: Path) -> int:
    """Execute the notebook in its own folder, printing what it prints; return the exit code.

    Raises
    ------
    ValueError
        The file is no notebook.
    """
    import nbformat
    from jupyter_core.utils import run_sync
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook = _read(path)
    with tempfile.TemporaryDirectory(prefix="papershell-") as sockets:
        kernel = _kernel_of_this_python(sockets)
        client = NotebookClient(
            notebook, km=kernel, timeout=None, on_cell_executed=_show,
            resources={"metadata": {"path": str(path.parent)}},
        )  # fmt: skip
        try:
            client.execute()
        except CellExecutionError:
            return 1  # the traceback is among the outputs
        except (DeadKernelError, KeyboardInterrupt):
            return INTERRUPTED
        finally:
            with replacing(path) as file:
                file.write(nbformat.writes(notebook).encode())
            if kernel.has_kernel:  # the client ends one that it was given after a signal only
                run_sync(kernel.shutdown_kernel)()
    return 0


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (
        ValueError,
        AttributeError,
        KeyError,
        TypeError,
        RecursionError,
        nbformat.ValidationError,
    ) as error:
        raise ValueError(f"{path} is no notebook: {error}") from error


def _kernel_of_this_python(sockets: str) -> Any:
    """Return a manager that looks for no kernels in the user's folders: ipykernel's own is this Python's.

    The kernel is reached through files in the private folder ``sockets``, not by TCP.
    """
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    return AsyncKernelManager(
        kernel_name=NATIVE_KERNEL_NAME, kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc", ip=f"{sockets}/kernel",
    )  # fmt: skip


def _show(cell: Any, **_: Any) -> None:
    """Print the text that a cell printed, and the traceback that ended it."""
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            stream = sys.stderr if output.name == "stderr" else sys.stdout
            print(output.text, end="", file=stream, flush=True)
        elif output.output_type == "error":
            print("\n".join(output.traceback), file=sys.stderr)


def main() -> int:
    """Execute the notebook that the command line names."""
    try:
        return execute(Path(sys.argv[1]))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
