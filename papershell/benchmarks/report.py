"""Recorded benchmark runs as one self-contained page: no network, no font, no library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from papershell.benchmarks.records import Run, benchmarks_of, compact, key_of, machine_of
from papershell.kernels.files import replacing

_FOLDER = Path(__file__).parent
_PARTS = {"{{style}}": "report.css", "{{plots}}": "report_plots.js", "{{script}}": "report.js"}
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
        There is no run, or a number is not finite.
    """
    if not runs:
        raise ValueError("There is no recorded run to report; measure one first (papershell bench run).")
    data = json.dumps(_page_data(runs), allow_nan=False, separators=(",", ":"))
    page = _text("report.html")
    for place, part in _PARTS.items():
        page = page.replace(place, _text(part))
    return page.replace(_PLACEHOLDER, data.translate(_HARMLESS))


def write_report(runs: Sequence[Run], target: Path) -> None:
    """Write the page of :func:`render` to ``target``, whole or not at all."""
    page = render(runs).encode()
    with replacing(target) as file:
        file.write(page)


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _page_data(runs: Sequence[Run]) -> dict[str, Any]:
    last = runs[-1]
    history = [run for run in runs if machine_of(run) == machine_of(last)]
    by_key = [benchmarks_of(run) for run in history]
    return {
        "run": compact(last),
        "history": {
            "runs": [_identity(run) for run in history],
            "ratios": [[_ratio(run.get(key_of(case))) for run in by_key] for case in last["benchmarks"]],
        },
        **_new_and_vanished(history),
        "recorded": {"runs": len(runs), "machines": len({machine_of(run) for run in runs})},
    }


def _new_and_vanished(history: Sequence[Run]) -> dict[str, Any]:
    *before, last = history
    earlier = {key: (case, run) for run in before for key, case in benchmarks_of(run).items()}
    now = benchmarks_of(last)
    return {
        "new": [_label(case) for key, case in now.items() if before and key not in earlier],
        "vanished": [
            {"case": _label(case), "last_seen": run["commit_info"]["id"]}
            for key, (case, run) in earlier.items()
            if key not in now
        ],
    }


def _label(case: Run) -> str:
    params = (case.get("params") or {}).items()
    sizes = [f"{name} {value}" for name, value in params if isinstance(value, int | float)]
    return ", ".join([f"{case['group']}: {case['extra_info'].get('case') or case['name']}", *sizes])


def _identity(run: Run) -> dict[str, Any]:
    commit = run["commit_info"]
    return {"commit": commit["id"], "dirty": commit.get("dirty"), "datetime": run["datetime"]}


def _ratio(case: Run | None) -> list[float | None] | None:
    """Return the speed-up and the ends of its interval, or None if the run lacks the case."""
    if case is None or (ratio := case["extra_info"].get("ratio")) is None:
        return None
    return [ratio, case["extra_info"].get("ratio_low"), case["extra_info"].get("ratio_high")]
