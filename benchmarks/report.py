"""Recorded benchmark runs as one self-contained page: no network, no font, no library."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernels.files import replacing

Run = Mapping[str, Any]

_TEMPLATE = Path(__file__).with_name("report.html")
_PLACEHOLDER = "{{data}}"
# No string inside the JSON may close the script element that holds it.
_HARMLESS = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&"})


def render(runs: Sequence[Run]) -> str:
    """Return the HTML page that shows the last run in full and all runs of its machine as history.

    Parameters
    ----------
    runs
        Recorded runs, oldest first, in pytest-benchmark's JSON format with papershell's
        ``machine_info["papershell"]`` and ``extra_info`` (times in seconds, rates in GB/s and
        GFLOP/s). Runs of other machines than the last one's are counted, not drawn.

    Raises
    ------
    ValueError
        Without a run, or where a number is not finite.
    """
    if not runs:
        raise ValueError("There is no recorded run to report; measure one first (papershell bench run).")
    data = json.dumps(_page_data(runs), allow_nan=False, separators=(",", ":"))
    return _TEMPLATE.read_text(encoding="utf-8").replace(_PLACEHOLDER, data.translate(_HARMLESS))


def write_report(runs: Sequence[Run], target: Path) -> None:
    """Write the page of :func:`render` to ``target``, whole or not at all."""
    page = render(runs).encode()
    with replacing(target) as file:
        file.write(page)


def _page_data(runs: Sequence[Run]) -> dict[str, Any]:
    last = runs[-1]
    history = [run for run in runs if _machine_id(run) == _machine_id(last)]
    by_name = [{case["fullname"]: case for case in run["benchmarks"]} for run in history]
    return {
        "run": {**last, "benchmarks": [_without_samples(case) for case in last["benchmarks"]]},
        "history": {
            "runs": [_identity(run) for run in history],
            "ratios": [[_ratio(run.get(case["fullname"])) for run in by_name] for case in last["benchmarks"]],
        },
        **_new_and_vanished(history),
        "recorded": {"runs": len(runs), "machines": len({_machine_id(run) for run in runs})},
    }


def _new_and_vanished(history: Sequence[Run]) -> dict[str, Any]:
    *before, last = history
    earlier = {case["fullname"]: (case, run) for run in before for case in run["benchmarks"]}
    now = {case["fullname"] for case in last["benchmarks"]}
    return {
        "new": [_label(case) for case in last["benchmarks"] if before and case["fullname"] not in earlier],
        "vanished": [
            {"case": _label(case), "last_seen": run["commit_info"]["id"]}
            for name, (case, run) in earlier.items()
            if name not in now
        ],
    }


def _machine_id(run: Run) -> str:
    return run["machine_info"]["papershell"]["id"]


def _label(case: Run) -> str:
    return f"{case['group']}: {case['extra_info'].get('case') or case['name']}"


def _without_samples(case: Run) -> dict[str, Any]:
    """Drop the raw timings, most of a file's bytes, which the page does not show."""
    return {**case, "stats": {name: value for name, value in case["stats"].items() if name != "data"}}


def _identity(run: Run) -> dict[str, Any]:
    commit = run["commit_info"]
    return {"commit": commit["id"], "dirty": commit.get("dirty"), "datetime": run["datetime"]}


def _ratio(case: Run | None) -> list[float | None] | None:
    """Return the speed-up and the ends of its interval, or None where the run has none."""
    if case is None or (ratio := case["extra_info"].get("ratio")) is None:
        return None
    return [ratio, case["extra_info"].get("ratio_low"), case["extra_info"].get("ratio_high")]
