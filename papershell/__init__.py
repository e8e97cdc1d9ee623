"""papershell: a compute core for image-classification training under a thin shell.

The kernels' public names are here, each loaded when it is first used: ``import papershell`` costs nothing.

    papershell.kernels         IDX files, normalization, regularization paths of logistic regression
    papershell.trainers        one page per model, and scikit-learn's interface in `papershell.trainers.logreg`
    papershell.benchmarks      every kernel beside its peers and this machine's limits
    papershell.orchestration   the command ``papershell``: jobs on Azure ML, or on a workspace of this machine
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from papershell.kernels import (
        BackendError,
        Evaluation,
        IdxError,
        PathSolution,
        Status,
        available_backends,
        fit_path,
        map_idx,
        normalize,
        read_idx,
        rows_over_ranks,
        write_idx,
    )

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Evaluation",
    "IdxError",
    "PathSolution",
    "Status",
    "available_backends",
    "fit_path",
    "map_idx",
    "normalize",
    "read_idx",
    "rows_over_ranks",
    "write_idx",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import papershell.kernels

    return getattr(papershell.kernels, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
