"""``papershell bench``: the benchmark suites, their report, and whether a run is slower than those before it."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from papershell.orchestration.table import print_table

if TYPE_CHECKING:
    from papershell.benchmarks.check import Verdict
    from papershell.benchmarks.records import Run

Device = Enum("Device", {"any": "any", "cpu": "cpu", "cuda": "cuda"})
HISTORY = Path("benchmarks/history")
RUN_FILE = Path("outputs/bench.json")

bench = typer.Typer(help="Measure every kernel against its reference and this machine's limits.")


def register(app: typer.Typer) -> None:
    app.add_typer(bench, name="bench", no_args_is_help=True)


@bench.command()
def run(
    select: Annotated[
        str, typer.Option(help="Only benchmarks whose name fits this pytest -k expression.")
    ] = "",
    smoke: Annotated[
        bool, typer.Option(help="Short rounds, no slow cases: whether all works, not how fast.")
    ] = False,
    device: Annotated[Device, typer.Option(help="Only the cases on this device.")] = Device.any,
    output: Annotated[
        Path, typer.Option(help="File for what is measured; it is kept up to date.")
    ] = RUN_FILE,
    history: Annotated[Path | None, typer.Option(help="Add the run to the history in this folder.")] = None,
) -> None:
    """Run the suites, each case interleaved with its reference, and write pytest-benchmark's JSON."""
    from papershell.benchmarks import records, runner

    budget_s = runner.SMOKE_S if smoke else runner.FULL_S
    try:
        measured = runner.run_suites(output, select=select, budget_s=budget_s, device=device.value)
    except (runner.BenchmarkFailure, KeyboardInterrupt):
        if output.exists():
            print_run(records.read_run(output))
        raise
    print_run(measured)
    print(f"wrote {output}")
    if history:
        print(f"wrote {records.append(history, measured)}")


@bench.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A run's file.")],
    after: Annotated[Path, typer.Argument(help="Another run's file.")],
) -> None:
    """Show how the ratios to the references differ between two runs, and with how wide intervals."""
    from papershell.benchmarks.records import benchmarks_of, machine_of, read_run

    old, new = read_run(before), read_run(after)
    if machine_of(old) != machine_of(new):
        print(
            f"{before} was measured on {machine_of(old)}, {after} on {machine_of(new)}: only the ratios compare"
        )
    past, rows = benchmarks_of(old), []
    for key, found in benchmarks_of(new).items():
        if key in past and not found["extra_info"].get("is_reference"):
            ratios = [_interval(b["extra_info"]) for b in (past[key], found)]
            change = past[key]["extra_info"]["ratio"] / found["extra_info"]["ratio"] - 1
            rows.append((key, *ratios, f"{100 * change:+.1f} %"))
    print_table(("benchmark", "before", "after", "slower by"), rows)
    only = {
        "vanished": past.keys() - benchmarks_of(new).keys(),
        "new": benchmarks_of(new).keys() - past.keys(),
    }
    for state, keys in only.items():
        for key in sorted(keys):
            print(f"{state}: {key}")


@bench.command()
def report(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="The run to show.")] = RUN_FILE,
    history: Annotated[Path, typer.Option(help="Folder of the runs before it.")] = HISTORY,
    output: Annotated[Path, typer.Option(help="The page.")] = Path("outputs/bench.html"),
) -> None:
    """Write one HTML page: table, roofline, history. It needs no network."""
    from papershell.benchmarks.records import machine_of, read_run
    from papershell.benchmarks.report import write_report

    shown = read_run(run_file)
    before = _history(history, machine_of(shown), shown)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_report([*before, shown], output)
    print(f"wrote {output}")


@bench.command()
def check(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="The run to judge.")] = RUN_FILE,
    baseline: Annotated[Path, typer.Option(help="Folder of the runs before it.")] = HISTORY,
    confirm: Annotated[bool, typer.Option(help="Measure what seems slower once more, here and now.")] = True,
) -> None:
    """Say which benchmarks are slower than noise explains; exit with 1 if any is.

    The first run of a machine has nothing to be compared with, and passes.
    """
    from papershell.benchmarks import check as checks
    from papershell.benchmarks.records import machine_of, read_run

    judged = read_run(run_file)
    if not baseline.is_dir():
        raise ValueError(f"{baseline}: no such folder; `papershell bench run --history {baseline}` makes it")
    before = _history(baseline, machine_of(judged), judged)
    if not before:
        print(f"nothing to compare with: {baseline} holds no earlier runs of {machine_of(judged)}")
        return
    verdicts = checks.judge(judged, before)
    if confirm and any(verdict.state == "slower" for verdict in verdicts):
        verdicts = checks.confirm(verdicts, before, lambda keys: _measure_again(keys, judged))
    _print_verdicts(verdicts, len(before))
    if any(verdict.state == "slower" for verdict in verdicts):
        raise typer.Exit(1)


def _history(folder: Path, machine: str, run: Run) -> list[Run]:
    """The runs before ``run`` that took as long a time for each case; files that are none are named."""
    from papershell.benchmarks.records import budget_of, moment_of, read_history

    runs, notes = read_history(folder, machine)
    for note in notes:
        print(f"note: {note}")
    return [old for old in runs if moment_of(old) < moment_of(run) and budget_of(old) == budget_of(run)]


def _measure_again(keys: Collection[str], judged: Run) -> Run:
    """Measure some of a run's benchmarks once more, as it did."""
    from papershell.benchmarks.records import budget_of, machine_of
    from papershell.benchmarks.runner import FULL_S, measure_again

    again = measure_again(keys, budget_s=budget_of(judged) or FULL_S)
    if machine_of(again) != machine_of(judged):
        raise ValueError(
            f"the run is of {machine_of(judged)}, this is {machine_of(again)}: check it there, or with --no-confirm"
        )
    return again


def print_run(run: Run) -> None:
    """Print a line for each benchmark."""
    rows = []
    for benchmark in run["benchmarks"]:
        facts = benchmark["extra_info"]
        percent, error = facts.get("percent_of_ceiling"), facts.get("error")
        rows.append((
            benchmark["group"], facts["case"], f"{1e3 * benchmark['stats']['median']:.4g}", _interval(facts),
            "" if percent is None else f"{percent:.0f} % of {facts.get('ceiling')}",
            "" if error is None else f"{error:.0e}",
        ))  # fmt: skip
    print_table(("group", "case", "ms", "times as fast as the reference", "limit", "error"), rows)


def _interval(facts: dict) -> str:
    return f"{facts['ratio']:.3g} ({facts['ratio_low']:.3g} to {facts['ratio_high']:.3g})"


def _print_verdicts(verdicts: list[Verdict], runs: int) -> None:
    """Print what changed, and how many did not."""
    told = [v for v in verdicts if v.state in ("slower", "faster")]
    rows = [
        (
            v.key,
            v.state,
            f"{100 * v.change:+.1f} %",
            f"{100 * v.noise:.1f} %",
            f"{100 * v.sure:.2f} %",
            "..".join(v.since),
        )
        for v in sorted(told, key=lambda v: -v.change)
    ]
    if rows:
        print_table(("benchmark", "is", "by", "noise", "sure", "commits"), rows)
    for v in verdicts:
        if v.state in ("new", "vanished"):
            print(f"{v.state}: {v.key}")
    undecided = sum(v.state == "undecided" for v in verdicts)
    if undecided:
        print(f"{undecided} benchmarks have too few runs before this one to decide on")
    print(f"{sum(v.state == 'same' for v in verdicts)} as before, against {runs} runs")
