"""``papershell backends``: what the kernels can run on here."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command()(backends)


def backends() -> None:
    """List the compute back ends, each with its device or the reason why it is absent."""
    from rich.console import Console
    from rich.table import Table

    from kernels import available_backends
    from kernels.backends import is_available

    table = Table("back end", "usable", "device, or why not")
    for name, description in available_backends().items():
        table.add_row(name, "yes" if is_available(name) else "no", description)
    Console().print(table)
