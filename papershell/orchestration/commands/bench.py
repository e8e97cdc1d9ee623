"""``papershell bench``: parses, calls `papershell.benchmarks`, prints."""

from __future__ import annotations

from enum import Enum
from functools import partial
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
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Your own files of benchmarks, instead of papershell's."),
    ] = None,
    select: Annotated[
        str, typer.Option(help="Only benchmarks whose name fits this pytest -k expression.")
    ] = "",
    smoke: Annotated[
        bool,
        typer.Option(help="Short rounds, small problems, no slow cases: whether all works, not how fast."),
    ] = False,
    device: Annotated[Device, typer.Option(help="Only the cases on this device.")] = Device.any,
    output: Annotated[Path, typer.Option(help="File for the results; it is kept up to date.")] = RUN_FILE,
    history: Annotated[Path | None, typer.Option(help="Add the run to the history in this folder.")] = None,
) -> None:
    """Run the suites, each case interleaved with its reference, and write pytest-benchmark's JSON."""
    from papershell.benchmarks import plugin, records, runner

    budget_s = plugin.SMOKE_S if smoke else plugin.FULL_S
    try:
        measured = runner.run_suites(
            output, paths=paths or (), select=select, budget_s=budget_s, device=device.value
        )
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
    from papershell.benchmarks.compare import compare_runs
    from papershell.benchmarks.records import machine_of, read_run
    from papershell.benchmarks.results import interval

    old, new = read_run(before), read_run(after)
    if machine_of(old) != machine_of(new):
        print(
            f"{before} was measured on {machine_of(old)}, {after} on {machine_of(new)}: only the ratios compare"
        )
    found = compare_runs(old, new)
    rows = [(c.key, interval(c.before), interval(c.after), f"{100 * c.slower:+.1f} %") for c in found.changes]
    print_table(("benchmark", "before", "after", "slower by"), rows)
    _print_keys(vanished=found.vanished, new=found.new)


@bench.command()
def report(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="The run to show.")] = RUN_FILE,
    history: Annotated[Path, typer.Option(help="Folder of the runs before it.")] = HISTORY,
    output: Annotated[Path, typer.Option(help="The page.")] = Path("outputs/bench.html"),
) -> None:
    """Write one HTML page: table, roofline, history. It needs no network."""
    from papershell.benchmarks.records import read_run
    from papershell.benchmarks.report import write_report

    shown = read_run(run_file)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_report([*_earlier(history, shown), shown], output)
    print(f"wrote {output}")


@bench.command()
def check(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="The run to judge.")] = RUN_FILE,
    baseline: Annotated[Path, typer.Option(help="Folder of the runs before it.")] = HISTORY,
    confirm: Annotated[bool, typer.Option(help="Measure the slower ones once more, here and now.")] = True,
) -> None:
    """Say which benchmarks are slower than noise explains; exit with 1 if any is.

    The first run of a machine has no run to be compared with, and passes.
    """
    from papershell.benchmarks import check as checks
    from papershell.benchmarks.records import machine_of, read_run

    judged = read_run(run_file)
    if not baseline.is_dir():
        raise ValueError(f"{baseline}: no such folder; `papershell bench run --history {baseline}` makes it")
    before = _earlier(baseline, judged)
    if not before:
        print(f"nothing to compare with: {baseline} holds no earlier runs of {machine_of(judged)}")
        return
    verdicts = checks.judge(judged, before)
    if confirm:
        verdicts = checks.confirm(verdicts, before, partial(checks.measure_like, judged))
    _print_verdicts(verdicts, len(before))
    if any(verdict.state == "slower" for verdict in verdicts):
        raise typer.Exit(1)


def _earlier(folder: Path, run: Run) -> list[Run]:
    """The runs before ``run``; files that hold no run are named."""
    from papershell.benchmarks.check import earlier_runs

    runs, notes = earlier_runs(folder, run)
    for note in notes:
        print(f"note: {note}")
    return runs


def print_run(run: Run) -> None:
    """Print a line for each benchmark."""
    from papershell.benchmarks.results import interval

    rows = []
    for benchmark in run["benchmarks"]:
        facts = benchmark["extra_info"]
        percent, error = facts.get("percent_of_ceiling"), facts.get("error")
        rows.append((
            benchmark["group"], facts["case"], f"{1e3 * benchmark['stats']['median']:.4g}", interval(facts),
            "" if percent is None else f"{percent:.0f} % of {facts.get('ceiling')}",
            "" if error is None else f"{error:.0e}",
        ))  # fmt: skip
    print_table(("group", "case", "ms", "times as fast as the reference", "limit", "error"), rows)


def _print_verdicts(verdicts: list[Verdict], runs: int) -> None:
    """Print the changes, and how many benchmarks did not change."""
    told = sorted((v for v in verdicts if v.state in ("slower", "faster")), key=lambda v: -v.change)
    rows = [
        (v.key, v.state, f"{100 * v.change:+.1f} %", f"{100 * v.noise:.1f} %", f"{100 * v.sure:.2f} %",
         "..".join(v.since))
        for v in told
    ]  # fmt: skip
    if rows:
        print_table(("benchmark", "is", "by", "noise", "sure", "commits"), rows)
    _print_keys(**{state: [v.key for v in verdicts if v.state == state] for state in ("new", "vanished")})
    undecided = sum(v.state == "undecided" for v in verdicts)
    if undecided:
        print(f"{undecided} benchmarks have too few runs before this one to decide on")
    print(f"{sum(v.state == 'same' for v in verdicts)} as before, against {runs} runs")


def _print_keys(**keys_by_state: list[str]) -> None:
    for state, keys in keys_by_state.items():
        for key in keys:
            print(f"{state}: {key}")
