"""The table of recorded results: ``python -m papershell.benchmarks.results [RUN ...]``.

Adds the runs named to ``benchmarks/results/``, one file for each machine and date, and writes the table in
the README there anew from all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from papershell.benchmarks.records import BLOCK, Run, compact, machine_of, read_run, write_run
from papershell.kernels.files import replacing

FOLDER = Path(__file__).parent / "results"
HEAD = """# Recorded results

Written by `python -m papershell.benchmarks.results` from the files beside it, which `papershell bench run` measured.
Each case ran in interleaved rounds with the first of its group, the reference, also the reference itself:
what its ratio differs from 1 is noise. In brackets the interval that holds the ratio with 95 %. The limit
is the best that was seen of it, when the run started or in the rounds of the case; a copy has another mix
of reads and writes than most kernels, so that these may surpass it. The error is the largest against
float64, relative to the largest value.
"""
COLUMNS = ("group", "case", "median", "times as fast as the reference", "of the limit", "error", "first call")


def store(run: Run) -> Path:
    """Add a run to the results and return its file; a run of the same machine and day gives way."""
    path = FOLDER / f"{machine_of(run)}-{run['datetime'][:10]}.json"
    write_run(path, compact(run))
    return path


def page(runs: Iterable[Run]) -> str:
    """Return the README of these runs, in Markdown."""
    return "\n".join([HEAD, *(_section(run) for run in runs)])


def _section(run: Run) -> str:
    block = run["machine_info"][BLOCK]
    gpu = block.get("gpu")
    device = f"{gpu['name']}, driver {gpu.get('driver')}; " if gpu else ""
    libraries = ", ".join(f"{name} {version}" for name, version in block.get("libraries", {}).items())
    limits = ", ".join(
        f"{name} {limit['value']:.3g} {limit['unit']}" for name, limit in block["ceilings"].items()
    )
    what = f"{device}{block['cpu']}, {block['cores']} cores"
    lines = [
        f"## {run['datetime'][:10]}, {what}, commit {run['commit_info']['id'][:10]}",
        f"Limits when the run started: {limits}.", f"With {libraries}.", table(run),
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def table(run: Run) -> str:
    """Return a run's benchmarks as a Markdown table, group by group."""
    rows = sorted((_row(benchmark) for benchmark in run["benchmarks"]), key=lambda row: row[0])
    lines = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows)]
    return "\n".join(lines)


def _row(benchmark: dict[str, Any]) -> list[str]:
    facts, percent = benchmark["extra_info"], benchmark["extra_info"].get("percent_of_ceiling")
    return [
        benchmark["group"],
        f"{facts['case']} (reference)" if facts.get("is_reference") else facts["case"],
        seconds(benchmark["stats"]["median"]),
        f"{facts['ratio']:.3g} ({facts['ratio_low']:.3g} to {facts['ratio_high']:.3g})",
        "" if percent is None else f"{percent:.0f} % of {facts['ceiling']}",
        "" if facts.get("error") is None else f"{facts['error']:.0e}",
        "" if facts.get("first_call_s") is None else seconds(facts["first_call_s"]),
    ]


def seconds(value: float) -> str:
    """Return seconds in the unit that suits them."""
    scale, unit = next((s, u) for s, u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if value * s >= 1 or u == "µs")
    return f"{value * scale:.3g} {unit}"


def main() -> None:
    """Store the runs named on the command line and write the README."""
    for name in sys.argv[1:]:
        print(f"wrote {store(read_run(Path(name)))}")
    runs = [read_run(path) for path in sorted(FOLDER.glob("*.json"))]
    with replacing(FOLDER / "README.md") as file:
        file.write(page(runs).encode())
    print(f"wrote {FOLDER / 'README.md'}")


if __name__ == "__main__":
    main()
