"""``papershell bench``: parses, calls `papershell.benchmarks`, prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from papershell.orchestration.table import print_table

if TYPE_CHECKING:
    from papershell.benchmarks.against import Verdict
    from papershell.benchmarks.records import Run

Device = Enum("Device", {"any": "any", "cpu": "cpu", "cuda": "cuda"})
HISTORY = Path("benchmarks/history")
RUN_FILE = Path("outputs/bench.json")
FAILED = 2
EXIT_CODES = {"slower": 1, "failed": FAILED, "undecided": 3}  # the first that applies
WORDS = {"slower": "regression", "undecided": "could not decide"}

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


Against = Annotated[str, typer.Option(metavar="COMMIT", help="The commit to compare the current files with.")]
Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATH]...", help="Your own files of benchmarks, instead of papershell's."),
]
Select = Annotated[
    str,
    typer.Option(help="Only benchmarks whose name fits this pytest -k expression; else all but slow ones."),
]
Least = Annotated[float, typer.Option(min=0.1, help="The slowdown to find, in percent.")]
Budget = Annotated[float, typer.Option(min=1, help="Seconds of all turns of a case, at most.")]


@bench.command()
def check(
    against: Against,
    paths: Paths = None,
    select: Select = "",
    device: Annotated[Device, typer.Option(help="Only the cases on this device.")] = Device.any,
    least: Least = 3.0,
    budget: Budget = 60.0,
) -> None:
    """Compare the current files with a commit, case by case, in turns of processes of both.

    Exits with 0 if no case is slower, 1 if one is (a regression), 2 if one failed, 3 if one could not be decided.
    """
    from papershell.benchmarks import against as comparison

    with _errors_exit_with(FAILED):
        verdicts = comparison.against_commit(
            against, comparison.Wish(paths or (), select, device.value, least / 100, budget), _print_verdict
        )
    states = [verdict.state for verdict in verdicts]
    _print_counts(states)
    code = next((code for state, code in EXIT_CODES.items() if state in states), 0)
    raise typer.Exit(code)


@bench.command()
def bisect(
    good: Annotated[str, typer.Argument(help="A commit that was fast.")],
    bad: Annotated[str, typer.Argument(help="A later commit that is slow.")],
    select: Annotated[str, typer.Option(help="The benchmark: a pytest -k expression.")],
    paths: Paths = None,
    least: Least = 3.0,
    budget: Budget = 60.0,
) -> None:
    """Find the commit since which a benchmark is slow, each candidate compared with the fast one.

    Exits with 2 if a candidate failed, and with 3 if one could not be decided.
    """
    from papershell.benchmarks import against as comparison

    with _errors_exit_with(FAILED):
        wish = comparison.Wish(paths or (), select, "any", least / 100, budget)
        found = comparison.bisect(good, bad, wish, _print_verdict)
    print(found.sentence)
    raise typer.Exit(EXIT_CODES.get(found.state, 0) if found.state != "slower" else 0)


@contextmanager
def _errors_exit_with(code: int) -> Iterator[None]:
    """Give errors another exit code than 1, which means a regression here; let SIGTERM too remove the checkouts."""
    from papershell.benchmarks.trees import sigterm_exits

    try:
        with sigterm_exits():
            yield
    except Exception as error:
        error.exit_code = code  # type: ignore[attr-defined]
        raise


def _print_verdict(verdict: Verdict) -> None:
    """Print a line: what is so, by how much, the smallest slowdown that would have been seen, and the case."""
    print(f"{WORDS.get(verdict.state, verdict.state):16}  {_measured(verdict):54}  {verdict.key}", flush=True)
    for line in verdict.said.splitlines():
        print(f"  {line}", flush=True)


def _measured(verdict: Verdict) -> str:
    reading = verdict.reading
    if not reading.sets:
        return "sees nothing: the budget ended before the first look" if verdict.state == "undecided" else ""
    change = f"{100 * reading.change:+.1f} % ({100 * reading.low:+.1f} to {100 * reading.high:+.1f})"
    sees = f"{100 * reading.resolution:.2g} %"
    if verdict.state != "undecided":
        return f"{change}, sees {sees}"
    return f"{change}, " + (
        f"cannot see below {sees}: a busy machine" if reading.is_coarse else f"sees {sees}: too close to call"
    )


def _print_counts(states: list[str]) -> None:
    counts = {WORDS.get(state, state): states.count(state) for state in dict.fromkeys(states)}
    print(", ".join(f"{count} {word}" for word, count in counts.items()))


def _earlier(folder: Path, run: Run) -> list[Run]:
    """The runs before ``run``; files that hold no run are named."""
    from papershell.benchmarks.records import earlier_runs

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


def _print_keys(**keys_by_state: list[str]) -> None:
    for state, keys in keys_by_state.items():
        for key in keys:
            print(f"{state}: {key}")
