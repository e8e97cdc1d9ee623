"""The tables of recorded results: ``python -m papershell.benchmarks.results [RUN ...] [--rows WORD ...]``.

Adds the runs to ``papershell/benchmarks/results/``, one file for each machine and date, and writes the table in
the README there anew from all of them. ``--rows`` prints instead, in Markdown, the comparisons of the newest recorded
run (or of the runs named) whose group or case holds a word: rows for the README's table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from papershell.benchmarks.records import BLOCK, Run, compact, machine_of, moment_of, read_run, write_run
from papershell.kernels.files import replacing

FOLDER = Path(__file__).parent / "results"
HEAD = """# Recorded results

Written by `python -m papershell.benchmarks.results` from the files beside it, which `papershell bench run` measured.
Each case ran in interleaved rounds with its reference, the first of its group; the reference ran with itself too,
and the difference of that ratio from 1 is noise. In brackets the interval that holds the ratio with 95 %. The limit
is the best rate seen, when the run started, in the rounds of the case, or by the case itself; before 2026-11-21 the
case itself did not count, and a copy, with another mix of reads and writes, was the limit of all memory-bound kernels:
shares above 100 % are from then. The error is the largest against
float64, relative to the largest value. Of a solver it is the gap, (objective - optimum) / optimum, with the
objective in float64; then passes over the features are shown, and the gap of the peer that it is compared with,
its reference. A peer that takes longer than the budget of a case ran once.
"""
COLUMNS = ("group", "case", "median", "times as fast as the reference", "of the limit", "error", "first call")
ROW_COLUMNS = ("task", "papershell", "peer", "times as fast")


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
    processor = f"{device}{block['cpu']}, {block['cores']} cores"
    lines = [
        f"## {run['datetime'][:10]}, {processor}, commit {run['commit_info']['id'][:10]}",
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
        interval(facts) + _peer(facts),
        "" if percent is None else f"{percent:.0f} % of {facts['ceiling']}",
        ("" if facts.get("error") is None else f"{facts['error']:.0e}") + _passes(facts),
        "" if facts.get("first_call_s") is None else seconds(facts["first_call_s"]),
    ]


def _peer(facts: dict[str, Any]) -> str:
    """Seconds and gap of a solver's reference; the references of other cases have a row of their own."""
    if facts.get("reference_gap") is None:
        return ""
    return f" of {facts['reference']}: {seconds(facts['reference_s'])}, gap {facts['reference_gap']:.0e}"


def _passes(facts: dict[str, Any]) -> str:
    return "" if facts.get("passes") is None else f", {facts['passes']:.0f} passes"


def rows(run: Run, words: Sequence[str] = ()) -> str:
    """Return a run's comparisons as a Markdown table: those whose group or case holds one of ``words``, or all."""
    chosen = [
        benchmark
        for benchmark in run["benchmarks"]
        if not benchmark["extra_info"].get("is_reference")
        and (
            not words
            or any(word in f"{benchmark['group']} {benchmark['extra_info']['case']}" for word in words)
        )
    ]
    lines = (ROW_COLUMNS, ["---"] * len(ROW_COLUMNS), *map(_comparison, chosen))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _comparison(benchmark: dict[str, Any]) -> list[str]:
    facts = benchmark["extra_info"]
    is_solver, took = facts.get("passes") is not None, facts.get("reference_s")
    ours = f"{facts['case']}: {seconds(benchmark['stats']['median'])}"
    peer = facts["reference"] + ("" if took is None else f": {seconds(took)}")
    ours += f", gap {facts['error']:.1e}" if is_solver else ""
    peer += "" if facts.get("reference_gap") is None else f", gap {facts['reference_gap']:.1e}"
    return [benchmark["group"], ours, peer, f"{facts['ratio']:.2g}"]


def interval(facts: dict[str, Any]) -> str:
    """Return a ratio and its interval; a single round has none."""
    ratio, low, high = (f"{facts[name]:.3g}" for name in ("ratio", "ratio_low", "ratio_high"))
    return ratio if facts["ratio_low"] == facts["ratio_high"] else f"{ratio} ({low} to {high})"


def seconds(value: float) -> str:
    """Return seconds in the unit that suits them."""
    scale, unit = next((s, u) for s, u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if value * s >= 1 or u == "µs")
    return f"{value * scale:.3g} {unit}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Store the runs named on the command line and write the README, or print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="a file of papershell bench run")
    parser.add_argument(
        "--rows", nargs="*", metavar="WORD", help="print comparisons in Markdown, without writing a file"
    )
    chosen = parser.parse_args(arguments)
    if chosen.rows is not None:
        found = [read_run(path) for path in chosen.runs or FOLDER.glob("*.json")]
        print(rows(max(found, key=moment_of), chosen.rows))
        return
    for path in chosen.runs:
        print(f"wrote {store(read_run(path))}")
    recorded = [read_run(path) for path in sorted(FOLDER.glob("*.json"))]
    with replacing(FOLDER / "README.md") as file:
        file.write(page(recorded).encode())
    print(f"wrote {FOLDER / 'README.md'}")


if __name__ == "__main__":
    main()
