"""The report page as its reader sees it: Chromium opens it, and all it shows is compared with the runs."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.browser import Page
from tests.benchmarks.runs import (
    CASES,
    CUDA_CASES,
    GPU,
    HOSTILE,
    OPTIONAL_NUMBERS,
    SIZE_CASES,
    SIZES,
    Case,
    commit_id,
    make_history,
    make_run,
)

ABSENT, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


def grouped(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cases as the page first lists them: those of a group together, groups as they come."""
    groups = [case["group"] for case in cases]
    return sorted(cases, key=lambda case: groups.index(case["group"]))


SCALES = {
    "ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, TIMES: 1.0, "%": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9,
}  # fmt: skip


def values(text: str) -> list[float]:
    """Return the numbers of a cell in base units."""
    found = re.findall(r"(-?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s?(ns|µs|ms|s\b|kB|MB|GB|" + TIMES + "|%|)", text)
    return [float(number.replace(",", "")) * SCALES[unit] for number, unit in found]


def expected_numbers(case: dict[str, Any]) -> dict[str, list[float | None]]:
    extra = case["extra_info"]
    return {
        "Time": [case["stats"]["median"], extra["cold_s"], extra["host_s"]],
        "Speed-up": [extra["ratio"], extra["ratio_low"], extra["ratio_high"]],
        "GB/s": [extra["GB_per_s"]],
        "GFLOP/s": [extra["GFLOP_per_s"]],
        "% of ceiling": [extra["percent_of_ceiling"]],
        "Error vs float64": [extra["error"]],
        "First call": [extra["first_call_s"]],
        "Memory": [extra["peak_bytes"], extra["page_faults"]],
    }


def test_every_number_of_the_table_is_the_one_in_the_json(page: Page) -> None:
    runs = [*make_history(), make_run(9, cases=[*CASES, *CUDA_CASES, *SIZE_CASES], gpu=GPU)]
    rows = page.open(runs).rows()
    assert len(rows) == len(runs[-1]["benchmarks"])
    for row, case in zip(rows, grouped(runs[-1]["benchmarks"]), strict=True):
        for column, numbers in expected_numbers(case).items():
            text = re.sub(r"cold L2|of .*", "", row[column])
            present = [number for number in numbers if number is not None]
            assert values(text) == pytest.approx(present, rel=0.0051, abs=0.051 * ("%" in column)), (
                column,
                row,
            )
            assert (row[column] == ABSENT) == (not present)


def test_every_word_of_the_table_is_the_one_in_the_json(page: Page) -> None:
    runs = make_history()
    for row, case in zip(page.open(runs).rows(), grouped(runs[-1]["benchmarks"]), strict=True):
        extra = case["extra_info"]
        name = extra["case"] + (" ref" if extra["is_reference"] else "")
        assert (row["Benchmark"], row["Case"]) == (case["group"], name)
        assert [row[c] for c in ("dtype", "Back end", "Device")] == [
            extra[k] for k in ("dtype", "backend", "device")
        ]
        assert extra["percent_of_ceiling"] is None or row["% of ceiling"].endswith(f"of {extra['ceiling']}")


def test_poor_percentages_are_drawn_to_the_same_scale_as_good_ones(page: Page) -> None:
    runs = make_history()
    percentages = [case["extra_info"]["percent_of_ceiling"] for case in grouped(runs[-1]["benchmarks"])]
    widths = page.open(runs).js("""
        return [...document.querySelectorAll(".meter")].map(meter =>
            100 * meter.firstChild.getBoundingClientRect().width / meter.getBoundingClientRect().width);
    """)
    assert widths == pytest.approx([p for p in percentages if p is not None], abs=0.5)
    assert len(set(page.js("return [...document.querySelectorAll('.meter')].map(m => m.clientWidth)"))) == 1


def test_head_names_commit_machine_and_ceilings(page: Page) -> None:
    run = make_run(7, gpu=GPU, dirty=True)
    machine = run["machine_info"]["papershell"]
    text = page.open([run]).find("body")[0].text
    facts = ["2026-11-08 02:17:31 UTC", commit_id(7)[:7], "on main", "uncommitted changes", machine["id"]]
    facts += ["AMD EPYC 9B45 · 2 cores · 2,600 MHz", "15.6 GB", "NVIDIA H200 · 140 GB · 1,980 MHz · 700 W"]
    facts += [f"{name} {version}" for name, version in machine["libraries"].items()]
    assert [fact for fact in facts if fact not in text] == []
    shown = [element.text for element in page.find(".ceilings > div")]
    for line, (name, ceiling) in zip(shown, machine["ceilings"].items(), strict=True):
        title, value = line.split("\n")
        assert (title, value.split()[1].replace("µ", "u")) == (name, ceiling["unit"])
        assert float(value.split()[0].replace(",", "")) == pytest.approx(ceiling["value"], rel=0.005)


def natural(text: str) -> list[Any]:
    return [int(part) if part.isdigit() else part.casefold() for part in re.split(r"(\d+)", text)]


SORTED_BY: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Benchmark": lambda case: natural(case["group"]),
    "dtype": lambda case: natural(case["extra_info"]["dtype"]),
    "Back end": lambda case: natural(case["extra_info"]["backend"]),
    "Device": lambda case: case["extra_info"]["device"],
    "Time": lambda case: case["stats"]["median"],
    "Speed-up": lambda case: case["extra_info"]["ratio"],
    "GB/s": lambda case: case["extra_info"]["GB_per_s"],
    "GFLOP/s": lambda case: case["extra_info"]["GFLOP_per_s"],
    "% of ceiling": lambda case: case["extra_info"]["percent_of_ceiling"],
    "Error vs float64": lambda case: case["extra_info"]["error"],
    "First call": lambda case: case["extra_info"]["first_call_s"],
    "Memory": lambda case: case["extra_info"]["peak_bytes"],
}


def sorted_places(
    cases: list[dict[str, Any]], key: Callable[[dict[str, Any]], Any], *, reverse: bool
) -> list[int]:
    """Return the places in the file of the cases in order; those without a value last, ties as at first."""
    have = [case for case in grouped(cases) if key(case) is not None]
    lack = [case for case in grouped(cases) if key(case) is None]
    return [cases.index(case) for case in sorted(have, key=key, reverse=reverse) + lack]


def test_a_click_on_any_heading_sorts_up_and_then_down(page: Page) -> None:
    runs = make_history()
    cases = runs[-1]["benchmarks"]
    buttons = {button.text: button for button in page.open(runs).find("th button") if button.text}
    assert buttons.keys() == {*SORTED_BY, "Case"}
    for heading, key in SORTED_BY.items():
        for reverse in (False, True):
            buttons[heading].click()
            assert page.order() == sorted_places(cases, key, reverse=reverse), heading
            assert [th.get_attribute("aria-sort") for th in page.find("th[aria-sort]")] == [
                "descending" if reverse else "ascending"
            ]


def test_cases_sort_by_name_letters_before_case(page: Page) -> None:
    cases = [Case("g", name, "numpy", 1.0) for name in ("b10", "B9", "a", "b1")]
    page.open([make_run(cases=cases)])
    page.find("th button")[1].click()
    assert [row["Case"] for row in page.rows()] == ["a", "b1", "B9", "b10"]


def test_filter_hides_rows_points_and_charts_alike(page: Page) -> None:
    runs = make_history()
    cases = [case["extra_info"] for case in runs[-1]["benchmarks"]]
    page.open(runs)
    page.find("#filter")[0].send_keys("TORCH bfloat16")
    assert [row["Case"] for row in page.rows()] == ["three bfloat16 pieces"]
    assert page.find("#count")[0].text == f"1 of {len(cases)} cases"
    (place,) = [i for i, case in enumerate(cases) if case["case"] == "three bfloat16 pieces"]
    visible = [element for element in page.find("#roofline svg a, figure") if element.is_displayed()]
    assert [e.get_attribute("id") or e.get_dom_attribute("href") for e in visible] == [
        f"#case-{place}",
        f"history-{place}",
    ]
    page.find("#filter")[0].clear()
    page.find("#filter")[0].send_keys("ref")
    assert len(page.rows()) == sum(case["is_reference"] for case in cases)
    page.find("#filter")[0].clear()
    page.find("#filter")[0].send_keys(" ")
    assert len(page.rows()) == len(cases)


def in_view(page: Page, selector: str) -> bool:
    return page.js(
        "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return r.top >= 0 && r.bottom <= innerHeight",
        selector,
    )


def test_a_row_opens_its_history_and_a_point_its_row(page: Page) -> None:
    page.open(make_history())
    assert not in_view(page, "#history-5")
    page.find("#case-5 td.number")[0].click()
    assert page.driver.current_url.endswith("#history-5")
    assert in_view(page, "#history-5")
    page.find("#roofline svg a circle")[0].click()
    assert page.driver.current_url.endswith("#case-7")
    assert in_view(page, "#case-7")


def tick_positions(page: Page, axis: str) -> list[tuple[float, float]]:
    """Return (value, pixel) of the ticks along one axis of the roofline."""
    anchor = {"x": "middle", "y": "end"}[axis]
    ticks = page.js(
        """return [...document.querySelectorAll(`#roofline svg > g text[text-anchor=${arguments[0]}]`)]
             .map(text => [text.textContent, Number(text.getAttribute(arguments[1]))])""",
        anchor,
        axis,
    )
    return [(float(text), pixel - 4 * (axis == "y")) for text, pixel in ticks if re.match(r"[\d.]", text)]


def on_log_axis(value: float, ticks: list[tuple[float, float]]) -> float:
    (a, start), (b, end) = ticks[0], ticks[-1]
    return start + (end - start) * math.log(value / a) / math.log(b / a)


def test_roofline_places_every_case_with_bytes_and_flops(page: Page) -> None:
    runs = make_history()
    cases = [c for c in runs[-1]["benchmarks"] if c["extra_info"]["bytes"] and c["extra_info"]["flops"]]
    x_ticks, y_ticks = (tick_positions(page.open(runs), axis) for axis in "xy")
    circles = page.find("#roofline circle")
    for circle, case in zip(circles, cases, strict=True):
        extra = case["extra_info"]
        intensity, rate = extra["flops"] / extra["bytes"], extra["flops"] / case["stats"]["median"] / 1e9
        assert float(circle.get_attribute("cx")) == pytest.approx(on_log_axis(intensity, x_ticks), abs=0.1)
        assert float(circle.get_attribute("cy")) == pytest.approx(on_log_axis(rate, y_ticks), abs=0.1)
        title = circle.find_element("xpath", "../*[local-name()='title']").get_attribute("textContent")
        assert title.startswith(f"{case['group']}: {extra['case']}\n")
        assert values(title.split("\n")[1])[:2] == pytest.approx([intensity, rate], rel=0.0051)


def test_roofs_are_the_ceilings_of_the_run(page: Page) -> None:
    runs = make_history()
    x_ticks, y_ticks = (tick_positions(page.open(runs), axis) for axis in "xy")
    ceilings = runs[-1]["machine_info"]["papershell"]["ceilings"]
    expected = [name for name, c in ceilings.items() if name.startswith("copy") or c["unit"] == "GFLOP/s"]
    names = [text.get_attribute("textContent") for text in page.find(".roof-name")]
    assert sorted(name.rsplit(" ", 2)[0] for name in names) == sorted(expected)
    for line, name in zip(page.find(".roof"), names, strict=True):
        x1, y1, x2, y2 = (float(line.get_attribute(end)) for end in ("x1", "y1", "x2", "y2"))
        ceiling = ceilings[name.rsplit(" ", 2)[0]]["value"]
        decades_per_pixel = math.log10(x_ticks[-1][0] / x_ticks[0][0]) / (x_ticks[-1][1] - x_ticks[0][1])
        intensity = x_ticks[0][0] * 10 ** ((x2 - x_ticks[0][1]) * decades_per_pixel)
        rate = ceiling * intensity if name.endswith("GB/s") else ceiling
        assert y2 == pytest.approx(on_log_axis(rate, y_ticks), abs=0.1), name
        assert (y1 == y2) == name.endswith("GFLOP/s")
        assert x1 < x2


def test_history_draws_the_ratio_of_every_run(page: Page) -> None:
    runs = make_history()
    ours = [run for run in runs if "another" not in run["machine_info"]["papershell"]["id"]]
    page.open(runs)
    for place, case in enumerate(runs[-1]["benchmarks"]):
        name = case["fullname"]
        found = [(run, b["extra_info"]) for run in ours for b in run["benchmarks"] if b["fullname"] == name]
        found = [(run, extra) for run, extra in found if "ratio" in extra]  # none without the reference
        titles = [e.get_attribute("textContent") for e in page.find(f"#history-{place} circle title")]
        for title, (run, extra) in zip(titles, found, strict=True):
            commit, date, ratio = title.split("\n")
            assert commit.split(",")[0] == run["commit_info"]["id"][:7]
            assert ("uncommitted" in commit) == run["commit_info"]["dirty"]
            assert date[:10] == run["datetime"][:10]
            numbers = [extra["ratio"], extra["ratio_low"], extra["ratio_high"]]
            assert values(ratio) == pytest.approx(numbers, rel=0.0051)
    text = page.find("#recorded")[0].text
    assert "5 recorded runs of this machine (6 runs of 2 machines are recorded)" in text
    assert "New in this run: normalize, float32: cupy." in text
    assert f"Not in this run: import: papershell --help (last in {commit_id(1)[:7]})." in text


def test_history_line_falls_where_the_case_got_slower(page: Page) -> None:
    page.open([make_run(i, slowdown={"numba": 1.3} if i > 3 else {}) for i in range(8)])
    (place,) = [i for i, case in enumerate(CASES) if case.case == "numba"]
    heights = [float(c.get_attribute("cy")) for c in page.find(f"#history-{place} circle")]
    assert max(heights[:4]) < min(heights[4:])  # pixels grow downwards
    assert min(b - a for a, b in itertools.pairwise(heights)) > min(heights) - max(heights)


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)]
)
def test_text_stands_out_in_light_and_dark(page: Page, scheme: str, width: int) -> None:
    contrasts = page.open(make_history(), width=width, scheme=scheme).contrasts()
    assert len(contrasts) > 100
    assert {text: contrast for text, contrast in contrasts.items() if contrast < 4.5} == {}


def test_screenshot_shows_a_page_and_follows_the_colour_scheme(page: Page) -> None:
    light = page.open(make_history()).screenshot()[..., :3]
    dark = page.open(make_history(), scheme="dark").screenshot()[..., :3]
    assert light.mean() > 0.85
    assert dark.mean() < 0.2
    for picture in (light, dark):
        assert (
            picture.std(axis=(1, 2)).astype(bool).mean() > 0.5
        )  # not a blank page: most pixel rows hold something


@pytest.mark.parametrize("width", [390, 768, 1024, 1280])
def test_no_width_makes_the_page_scroll_sideways(page: Page, width: int) -> None:
    cases = [*CASES, *CUDA_CASES, Case("g" * 80, "a_name_without_a_gap_" * 8, "numpy", 1.0)]
    page.open([make_run(cases=cases, gpu=GPU, machine="m" * 120)], width=width)
    assert page.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_a_phone_shows_each_case_as_a_card_and_still_sorts(page: Page) -> None:
    page.open(make_history(), width=390)
    sizes = page.js(
        "return [...document.querySelectorAll('tbody td')].map(td => [td.offsetLeft, td.offsetLeft + td.offsetWidth])"
    )
    assert max(right for _, right in sizes) <= 390
    label = page.js("return getComputedStyle(document.querySelector('td.number'), '::before').content")
    assert label == '"Time"'
    next(button for button in page.find("th button") if button.text == "Speed-up").click()
    ratios = [values(row["Speed-up"])[0] for row in page.rows() if row["Speed-up"] != ABSENT]
    assert ratios == sorted(ratios)


def test_hostile_names_stay_text(page: Page) -> None:
    run = make_run(
        cases=[*CASES[:2], Case(HOSTILE, HOSTILE, HOSTILE, 0.1, HOSTILE, HOSTILE, bytes=8, flops=8)]
    )
    (*_, case) = run["benchmarks"]
    case["extra_info"] |= {"ceiling": HOSTILE, "percent_of_ceiling": 50.0, "ratio": 1.0}
    for name in ("fullname", "name"):
        case[name] = "constructor"
    machine = run["machine_info"]["papershell"]
    machine |= {"id": HOSTILE, "cpu": HOSTILE, "libraries": {HOSTILE: HOSTILE}, "gpu": {"name": HOSTILE}}
    machine["ceilings"] = {
        HOSTILE: {"value": 1.0, "unit": "GB/s"},
        "copy, " + HOSTILE: {"value": 1.0, "unit": "GB/s"},
    }
    run["commit_info"] = {"id": HOSTILE, "dirty": True, "branch": HOSTILE}
    run["datetime"] = HOSTILE
    page.open([make_run(cases=[Case(HOSTILE, "gone " + HOSTILE, "numpy", 1.0)], machine=HOSTILE), run])
    assert page.js("return window.harmed") is None
    assert page.find("img, b[onerror], tbody tr script") == []
    shown = page.js("return [...document.querySelectorAll('tr:last-child td')].map(cell => cell.textContent)")
    assert shown[:5] == [HOSTILE] * 5
    assert HOSTILE in page.js("return document.getElementById('recorded').textContent")


def test_a_run_with_nothing_optional_still_shows(page: Page) -> None:
    run = make_run()
    for case in run["benchmarks"]:
        case["extra_info"] = {}
    machine = run["machine_info"]["papershell"]
    del machine["ceilings"], machine["gpu"], machine["clock_MHz"]
    rows = page.open([run]).rows()
    assert [row["Case"] for row in rows] == [case["name"] for case in run["benchmarks"]]
    assert {row["% of ceiling"] for row in rows} == {ABSENT}
    assert "No case of this run counts both bytes and flops" in page.find("#roofline")[0].text
    assert page.find("figure") == []


def test_a_run_interrupted_before_its_first_result_still_shows(page: Page) -> None:
    page.open([make_run(), make_run(1, cases=[])])
    assert page.find("#count")[0].text == "0 cases"
    (summary,) = page.find("#recorded summary")  # a long list is folded
    assert summary.text == f"Not in this run: {len(make_run()['benchmarks'])} cases"
    summary.click()
    assert "decode, MNIST: gzip.decompress" in page.find("#recorded details")[0].text


def test_extreme_numbers_are_drawn(page: Page) -> None:
    run = make_run()
    numbers = [0, 1e-30, 1e30, 1e-300, 123456789, -1]
    for case, number in zip(run["benchmarks"], numbers, strict=False):
        case["extra_info"] |= dict.fromkeys(OPTIONAL_NUMBERS, number)
        case["stats"]["median"] = abs(number) or 1.0
    rows = page.open([run, run]).rows()
    shown = [values(row["Error vs float64"]) for row in rows[: len(numbers)]]
    assert shown == [pytest.approx([number], rel=0.0051) for number in numbers]


def test_two_runs_are_compared_on_the_page(page: Page) -> None:
    before, after = make_run(1), make_run(2, slowdown={"numba, out=": 1.3})
    page.open([before, make_run(3, machine="another-one"), after])
    assert not page.find("th.change")[0].is_displayed()
    options = [option.text for option in page.find("#against option")]
    assert options == ["…", f"{commit_id(1)[:7]}, 2026-11-02 02:17:31 UTC"]
    page.find("#against option")[1].click()
    assert page.find("th.change")[0].is_displayed()
    for row, case, old in zip(page.rows(), after["benchmarks"], before["benchmarks"], strict=True):
        then, now = old["extra_info"], case["extra_info"]
        if now["is_reference"]:
            assert row["Change"] == ABSENT  # its ratio to itself is noise
            continue
        ends = [
            (then["ratio"], now["ratio"]),
            (then["ratio_low"], now["ratio_high"]),
            (then["ratio_high"], now["ratio_low"]),
        ]
        found = values(row["Change"].replace("+", "").replace("\N{MINUS SIGN}", "-"))
        assert found == pytest.approx([100 * (a / b - 1) for a, b in ends], abs=0.051)
    page.find("#against option")[0].click()
    assert not page.find("th.change")[0].is_displayed()


def test_one_run_draws_no_history_and_has_none_to_compare_with(page: Page) -> None:
    page.open([make_run()])
    assert page.find("figure") == [] and not page.find("#history")[0].is_displayed()
    assert not page.find("#compare")[0].is_displayed()
    assert page.find("tbody a") == []  # no row leads to a history


def test_charts_of_cases_with_one_name_say_their_parameters(page: Page) -> None:
    runs = [make_run(n, cases=[*CASES, *SIZE_CASES]) for n in range(2)]
    page.open(runs)
    captions = [figure.text for figure in page.find("#charts figcaption")]
    assert len({*captions}) == len(captions) == len(CASES) + len(SIZE_CASES)
    assert not any("case " in caption for caption in captions)


def test_a_long_list_of_new_cases_is_folded(page: Page) -> None:
    page.open([make_run(0), make_run(1, cases=[*CASES, *SIZE_CASES])])
    (summary,) = page.find("#recorded summary")
    assert summary.text == f"New in this run: {len(SIZE_CASES)} cases"
    (details,) = page.find("#recorded details")
    assert details.size["height"] == pytest.approx(summary.size["height"], abs=1)
    summary.click()
    assert details.size["height"] > 1.5 * summary.size["height"]
    assert "scale: X / 255, rows 60000" in details.text


def test_a_run_without_ceilings_has_no_place_for_them(page: Page) -> None:
    run = make_run()
    run["machine_info"]["papershell"]["ceilings"] = {}
    assert [heading.text for heading in page.open([run]).find("#machine h2")] == [
        "Machine amd-epyc-2c-3f2a9c"
    ]


def test_sizes_are_drawn_against_times_one_line_a_case(page: Page) -> None:
    page.open([make_run(cases=[*CASES, *SIZE_CASES])])
    figures = page.find("#sizes figure")
    assert [figure.find_element("css selector", "figcaption").text for figure in figures] == [
        "scale dtype float32", "scale dtype float64",
    ]  # fmt: skip
    for figure in figures:
        paths = [path.get_attribute("d") for path in figure.find_elements("css selector", ".series")]
        assert len(paths) == 3
        for path in paths:
            x, y = ([float(n) for n in re.findall(r"[\d.]+", path)[start::2]] for start in (0, 1))
            assert len(x) == len(SIZES) and x == sorted(x)
            slope = (y[0] - y[-1]) / (x[-1] - x[0])
            assert (y[0] - y[1]) / (x[1] - x[0]) == pytest.approx(slope, rel=0.1)  # times grow as sizes do
        titles = [
            t.get_attribute("textContent")
            for t in figure.find_elements("css selector", "circle ~ title, title")
        ]
        assert any(title.startswith("numba\nrows 1000: ") for title in titles)
    page.open([make_run()])
    assert not page.find("#sizes")[0].is_displayed()


def test_a_spread_shows_quartiles_and_extremes_on_one_scale(page: Page) -> None:
    run = make_run()
    low, high = 0.8, 1.5
    drawn = page.open([run]).js("""
        return [...document.querySelectorAll(".spread")].map(spread => [...spread.children].map(
            bar => [parseFloat(bar.style.left), parseFloat(bar.style.left) + parseFloat(bar.style.width)]));
    """)
    for (line, box), case in zip(drawn, run["benchmarks"], strict=True):
        stats = case["stats"]
        names = ("min", "max", "q1", "q3")
        expected = [100 * (stats[name] / stats["median"] - low) / (high - low) for name in names]
        assert [*line, *box] == pytest.approx(expected, abs=0.01)


def test_commits_lead_to_their_page_if_the_run_knows_it(page: Page) -> None:
    run = make_run()
    assert page.open([run]).find("#commit a") == []
    run["commit_info"]["url"] = "javascript:alert(1)"
    assert page.open([run]).find("#commit a") == []
    run["commit_info"]["url"] = "https://example.org/a/b"
    (link,) = page.open([run]).find("#commit a")
    assert link.get_attribute("href") == f"https://example.org/a/b/commit/{commit_id(0)}"


def test_a_slowdown_says_how_to_find_its_commit(page: Page) -> None:
    page.open([make_run(0), make_run(1, slowdown={"numba, out=": 1.3})])
    (hint,) = page.find(".hint")
    assert hint.find_element("css selector", "code").text == (
        f"papershell bench bisect {commit_id(0)[:7]} {commit_id(1)[:7]} "
        '--select "test_normalize_float32 and numba and out"'
    )


def test_points_of_the_roofline_are_named_without_overlap(page: Page) -> None:
    run = make_run()
    page.open([run])
    names = page.find("#roofline .point-name")
    assert {name.get_attribute("textContent") for name in names} == {
        c["extra_info"]["case"]
        for c in run["benchmarks"]
        if c["extra_info"]["bytes"] and c["extra_info"]["flops"]
    }
    boxes = page.js("""
        return [...document.querySelectorAll("#roofline a:not(.crowded) .point-name, .roof-name:not([transform])")]
            .map(text => text.getBBox()).map(box => [box.x, box.y, box.x + box.width, box.y + box.height]);
    """)
    for a, b in itertools.combinations(boxes, 2):
        assert a[0] >= b[2] - 1 or b[0] >= a[2] - 1 or a[1] >= b[3] - 3 or b[1] >= a[3] - 3


def downloaded(page: Page, folder: Path, button: str, name: str) -> str:
    """Click a button that offers a file, and return what came."""
    behaviour = {"behavior": "allow", "downloadPath": str(folder)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    page.find(f"#{button}")[0].click()
    deadline = time.monotonic() + 60
    while not (folder / name).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return (folder / name).read_bytes().decode()


def test_the_visible_rows_are_exported(page: Page, tmp_path: Path) -> None:
    run = make_run(cases=[*CASES, Case('=1+1, "x"|', "+a\nb", "numpy", 0.1)])
    page.open([run]).find("#filter")[0].send_keys("numpy")
    shown = [case for case in run["benchmarks"] if case["extra_info"]["backend"] == "numpy"]
    rows = list(csv.DictReader(io.StringIO(downloaded(page, tmp_path, "csv", "benchmarks.csv"), newline="")))
    assert len(rows) == len(shown) == len(page.rows())
    for row, case in zip(rows, shown, strict=True):
        extra = case["extra_info"]
        for text, name in ((row["group"], case["group"]), (row["case"], extra["case"])):
            assert text.removeprefix("'") == name and text[0] not in "=+-@"  # no formula in a spreadsheet
        assert float(row["seconds"]) == case["stats"]["median"] and float(row["q3_s"]) == case["stats"]["q3"]
        assert row["ratio"] == "" or float(row["ratio"]) == extra["ratio"]
    head, rule, *lines = downloaded(page, tmp_path, "markdown", "benchmarks.md").splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (head, rule, *lines)]
    assert {len(row) for row in cells} == {len(cells[0])} and len(lines) == len(shown)
    assert [row[1].strip().removesuffix(" ref") for row in cells[2:]] == [
        " ".join(case["extra_info"]["case"].split()) for case in shown
    ]


def test_of_many_charts_those_near_the_window_are_drawn(page: Page) -> None:
    cases = [Case(f"group {n // 5}", f"case {n}", "numpy", 0.1, is_reference=n % 5 == 0) for n in range(110)]
    nights = [make_run(i, cases=cases, rounds=3) for i in range(2)]
    page.open([nights[i % 2] for i in range(200)])
    assert len(page.find("#history-109")) == 1 and page.find("#history-109 circle") == []
    page.find("#case-109 td.number")[0].click()
    deadline = time.monotonic() + 60
    while not page.find("#history-109 circle") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(page.find("#history-109 circle")) == 200


def test_the_page_may_not_reach_the_network(page: Page) -> None:
    page.open([make_run()])
    ask = "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), () => done('refused'))"
    assert page.driver.execute_async_script(ask) == "refused"
    assert "Content Security Policy" in page.complaints()[0]


def test_a_year_of_nights_opens(page: Page) -> None:
    nights = [make_run(i) for i in range(4)]
    page.open([nights[i % 4] for i in range(365)])
    assert len(page.find("#history-0 circle")) == 365
