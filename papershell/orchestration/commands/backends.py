"""``papershell backends``: what the kernels can run on here, and which of it a fit would take."""

from __future__ import annotations

from typing import Annotated

import typer

from papershell.orchestration.table import print_table


def register(app: typer.Typer) -> None:
    app.command()(backends)


def backends(
    explain: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(
            metavar="N P K R",
            help="Say how the solver fits R rates to N samples, P features and K classes, and on which back end.",
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the features, with --explain: uint8, float32, ...")
    ] = "float32",
) -> None:
    """List the compute back ends, each with its device or the reason why it is absent."""
    if explain is not None:
        return _explain(explain, dtype)
    from papershell.kernels import available_backends
    from papershell.kernels.backends import is_available

    rows = [(name, "yes" if is_available(name) else "no", why) for name, why in available_backends().items()]
    print_table(("back end", "usable", "device, or why not"), rows)


def _explain(sizes: tuple[int, int, int, int], dtype: str) -> None:
    """Print the solver's plan for a problem of these sizes."""
    import numpy as np

    from papershell.kernels.logreg.cost import explain

    N, P, K, R = sizes
    if min(N, P, R) < 1 or K < 2:
        raise ValueError(f"--explain {N} {P} {K} {R}: name samples, features and rates >= 1 and classes >= 2")
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind.kind not in "uifb":
        raise ValueError(f"--dtype {dtype}: name a real type of NumPy, for example uint8 or float32")
    for line in explain(N, P, K, R, kind):
        typer.echo(line)
