"""Whether a run is slower than the runs before it, told apart from noise.

The ratio to the reference in the same run decides, never seconds: a busy machine slows both.
A benchmark is slower if the interval of its ratio lies wholly below the band of noise around the
median of the last runs on that machine. The band is as wide as the wider of

    the spread of those runs: a prediction interval of Student's t for one more of them,
        from their median absolute deviation (Rousseeuw and Croux, 1993, section 1)
    the off-versus-off control: how far this run's reference seemed to differ from itself

and a second measurement of just that benchmark must say the same. A benchmark with fewer than `LEAST_RUNS`
runs before it, against the same reference, stays undecided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from papershell.benchmarks.plugin import FULL_S
from papershell.benchmarks.records import Run, benchmarks_of, budget_of, machine_of, moment_of, read_history
from papershell.benchmarks.runner import measure_again

LEAST_RUNS = 4
MOST_RUNS = 10  # the latest
SURENESS = 0.999  # that one more unchanged run stays above the band's lower edge
NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


@dataclass(frozen=True)
class Verdict:
    """How a benchmark did.

    Attributes
    ----------
    key : the benchmark, as `papershell.benchmarks.records.key_of` names it.
    state : ``slower``, ``faster``, ``same``, ``new``, ``vanished`` or ``undecided`` (too few runs).
    change : of its time relative to the reference; 0.1 is ten percent slower.
    noise : half of the band, as such a change.
    sure : probability that the change is not noise.
    since : commits of the last run within the band and of this one.
    """

    key: str
    state: str
    change: float = 0.0
    noise: float = 0.0
    sure: float = 0.0
    since: tuple[str, str] = ("", "")


def earlier_runs(folder: Path, run: Run) -> tuple[list[Run], list[str]]:
    """Return the history of ``run``, and a sentence on each file there that holds no run.

    Its history: the runs in ``folder`` of its machine, from before it, that measured each case as long as it did.
    """
    runs, notes = read_history(folder, machine_of(run))
    return [r for r in runs if moment_of(r) < moment_of(run) and budget_of(r) == budget_of(run)], notes


def judge(run: Run, history: Sequence[Run]) -> list[Verdict]:
    """Return a verdict on every benchmark of ``run`` and on those that only ``history`` (oldest first) has."""
    present, past = benchmarks_of(run), [(old, benchmarks_of(old)) for old in history]
    verdicts = []
    for key, found in present.items():
        before = [(old, kept[key]) for old, kept in past if key in kept]
        verdicts.append(judge_one(key, found, run, before) if before else Verdict(key, "new"))
    vanished = set(past[-1][1]) - set(present) if past else set()
    return verdicts + [Verdict(key, "vanished") for key in sorted(vanished)]


def judge_one(
    key: str, found: dict[str, Any], run: Run, before: Sequence[tuple[Run, dict[str, Any]]]
) -> Verdict:
    """Return the verdict on one benchmark against its earlier runs, oldest first."""
    now = found["extra_info"]
    before = [pair for pair in before if _reference(pair[1]) == _reference(found)][-MOST_RUNS:]
    if len(before) < LEAST_RUNS:
        return Verdict(key, "undecided")
    past = [math.log(old["extra_info"]["ratio"]) for _, old in before]
    centre = median(past)
    change = centre - math.log(now["ratio"])
    within = math.log(now["ratio_high"] / now["ratio_low"]) / 2
    spread = NORMAL_MAD * median(abs(value - centre) for value in past) * math.sqrt(1 + 1 / len(past))
    noise = max(spread * student(len(past) - 1), control_noise(run, found["group"]))
    state = "same"
    if centre - math.log(now["ratio_high"]) > noise:
        state = "slower"
    elif math.log(now["ratio_low"]) - centre > noise:
        state = "faster"
    sure = probability(abs(change) / max(math.hypot(spread, within / 2), 1e-9), len(past) - 1)
    return Verdict(
        key, state, math.expm1(change), math.expm1(noise), sure, commits(run, before, centre - noise)
    )


def _reference(benchmark: dict[str, Any]) -> str | None:
    return benchmark["extra_info"].get("reference")


def control_noise(run: Run, group: str) -> float:
    """Return how far the group's reference differed from itself: its interval's farther end, as a logarithm."""
    for benchmark in run["benchmarks"]:
        facts = benchmark["extra_info"]
        if benchmark["group"] == group and facts.get("is_reference"):
            return max(abs(math.log(facts["ratio_low"])), abs(math.log(facts["ratio_high"])))
    return 0.0


def commits(run: Run, before: Sequence[tuple[Run, dict[str, Any]]], least: float) -> tuple[str, str]:
    """Return the commits of the last run whose ratio's logarithm was at least ``least``, and of this run."""
    good = [old for old, kept in before if math.log(kept["extra_info"]["ratio"]) >= least]  # never empty
    return good[-1]["commit_info"]["id"][:10], run["commit_info"]["id"][:10]


def confirm(
    verdicts: Sequence[Verdict], history: Sequence[Run], measure: Callable[[Collection[str]], Run]
) -> list[Verdict]:
    """Measure the slower ones once more, and call ``same`` those that are not slower then.

    Parameters
    ----------
    verdicts : of `judge`.
    history : the runs that `judge` was given.
    measure : runs the benchmarks of these keys anew.
    """
    accused = {verdict.key for verdict in verdicts if verdict.state == "slower"}
    if not accused:
        return list(verdicts)
    again = {verdict.key: verdict for verdict in judge(measure(accused), history)}
    return [agreed(v, again.get(v.key)) if v.key in accused else v for v in verdicts]


def measure_like(run: Run, keys: Collection[str]) -> Run:
    """Measure some of a run's benchmarks once more, each as long as it did.

    Raises
    ------
    ValueError
        The run was measured on another machine.
    """
    again = measure_again(keys, budget_s=budget_of(run) or FULL_S)
    if machine_of(again) != machine_of(run):
        raise ValueError(
            f"the run is of {machine_of(run)}, this is {machine_of(again)}: check it there, or with --no-confirm"
        )
    return again


def agreed(first: Verdict, second: Verdict | None) -> Verdict:
    """Return the verdict of two measurements of one benchmark: the smaller change, the joint probability.

    The second ran without its reference as a case, so it has no control; the first one's holds for it too.
    """
    if second is None or second.state != "slower" or second.change <= first.noise:
        return replace(first, state="same")
    sure = 1 - (1 - first.sure) * (1 - second.sure)
    return replace(first, change=min(first.change, second.change), sure=sure)


def student(freedom: int) -> float:
    """Return the quantile of Student's t: one more value stays below it with `SURENESS`."""
    from scipy.stats import t

    return float(t.ppf(SURENESS, freedom))


def probability(size: float, freedom: int) -> float:
    """Return the probability that noise is smaller than ``size`` standard deviations."""
    from scipy.stats import t

    return float(t.cdf(size, freedom))
