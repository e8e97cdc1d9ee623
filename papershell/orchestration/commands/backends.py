"""``papershell backends``: what the kernels can run on here."""

from __future__ import annotations

import typer

from papershell.orchestration.table import print_table


def register(app: typer.Typer) -> None:
    app.command()(backends)


def backends() -> None:
    """List the compute back ends, each with its device or the reason why it is absent."""
    from papershell.kernels import available_backends
    from papershell.kernels.backends import is_available

    rows = [(name, "yes" if is_available(name) else "no", why) for name, why in available_backends().items()]
    print_table(("back end", "usable", "device, or why not"), rows)
