"""The report page as text: what it embeds, and what it refuses."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papershell.benchmarks.report import render, write_report
from tests.benchmarks.runs import CASES, HOSTILE, OPTIONAL_NUMBERS, commit_id, make_history, make_run

OPENING = '<script type="application/json" id="data">'


def embedded(page: str) -> dict[str, Any]:
    """Return the data of the page, read as a browser does: up to the first thing that ends a script."""
    return json.loads(re.split("</script", page.split(OPENING)[1], flags=re.IGNORECASE)[0])


def test_page_embeds_the_last_run_without_its_samples() -> None:
    runs = make_history()
    expected = copy.deepcopy(runs[-1])
    for case in expected["benchmarks"]:
        assert len(case["stats"].pop("data")) == case["stats"]["rounds"]
    assert embedded(render(runs))["run"] == expected


def test_history_is_that_of_the_last_runs_machine() -> None:
    data = embedded(render(make_history()))
    assert [run["commit"] for run in data["history"]["runs"]] == [commit_id(i) for i in (0, 1, 3, 4, 5)]
    assert [run["dirty"] for run in data["history"]["runs"]] == [False, False, True, False, False]
    assert data["recorded"] == {"runs": 6, "machines": 2}


def test_history_leaves_a_gap_where_a_run_lacks_the_benchmark() -> None:
    runs = make_history()
    first, *_, new = embedded(render(runs))["history"]["ratios"]
    extra = runs[0]["benchmarks"][0]["extra_info"]
    assert first[0] == [extra["ratio"], extra["ratio_low"], extra["ratio_high"]]
    assert [ratio is None for ratio in first] == [False, False, True, False, False]
    assert [ratio is None for ratio in new] == [True, True, True, True, False]


def test_new_and_vanished_benchmarks_are_named() -> None:
    data = embedded(render(make_history()))
    assert data["new"] == ["normalize, float32: cupy"]
    assert data["vanished"] == [{"case": "import: papershell --help", "last_seen": commit_id(1)}]


def test_nothing_is_new_in_the_first_run() -> None:
    data = embedded(render([make_run()]))
    assert data["new"] == data["vanished"] == []


def test_no_run_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="no recorded run to report; measure one first"):
        render([])


def test_a_failing_report_leaves_the_page_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_report([make_run()], target)
    before = target.read_bytes()
    broken = make_run()
    broken["benchmarks"][0]["stats"]["median"] = math.nan
    with pytest.raises(ValueError):
        write_report([broken], target)
    assert [*tmp_path.iterdir()] == [target]
    assert target.read_bytes() == before


NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers()
TEXT = st.text() | st.sampled_from([HOSTILE, "</SCRIPT >", "<!--<script>", "\ud800", "{{data}}"])
WORDS = ("dtype", "backend", "device", "case", "ceiling", "reference")


@settings(max_examples=60)
@given(
    numbers=st.fixed_dictionaries({}, optional=dict.fromkeys(OPTIONAL_NUMBERS, NUMBER)),
    words=st.fixed_dictionaries(dict.fromkeys(WORDS, TEXT)),
    names=st.tuples(TEXT, TEXT, TEXT, TEXT),
)
def test_any_numbers_and_any_text_come_back_the_same(
    numbers: dict[str, Any], words: dict[str, str], names: tuple[str, str, str, str]
) -> None:
    run = make_run(cases=CASES[:1])
    (case,) = run["benchmarks"]
    case["extra_info"] = numbers | words
    case["group"], case["name"], case["fullname"], run["machine_info"]["papershell"]["cpu"] = names
    page = render([run, run])
    data = embedded(page)
    del case["stats"]["data"]
    assert data["run"] == run
    ratio = [numbers.get(name) for name in ("ratio", "ratio_low", "ratio_high")]
    assert data["history"]["ratios"] == [[None if ratio[0] is None else ratio] * 2]
    assert page.split(OPENING)[0] == render([make_run()]).split(OPENING)[0]
