"""The recorded results, their table, and the workflow that measures every night."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from papershell.benchmarks import machine, results, runner
from papershell.benchmarks.records import read_run, write_run
from tests.benchmarks.runs import make_run

ROOT = Path(__file__).parents[2]
RECORDED = sorted(results.FOLDER.glob("*.json"))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_a_line_for_each_benchmark_with_its_numbers():
    run = make_run()
    head, _, *lines = results.table(run).splitlines()
    rows = {
        (row["group"], row["case"]): row
        for row in (dict(zip(cells(head), cells(x), strict=True)) for x in lines)
    }
    assert len(rows) == len(run["benchmarks"])
    for benchmark in run["benchmarks"]:
        facts = benchmark["extra_info"]
        name = facts["case"] + " (reference)" * facts["is_reference"]
        row = rows[benchmark["group"], name]
        found = [float(x) for x in re.findall(r"[\d.]+(?:e[-+]\d+)?", row["times as fast as the reference"])]
        assert found == pytest.approx([facts["ratio"], facts["ratio_low"], facts["ratio_high"]], rel=6e-3)
        value, unit = row["median"].split()
        assert float(value) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit] == pytest.approx(
            benchmark["stats"]["median"], rel=6e-3
        )


def test_what_a_run_does_not_tell_stays_empty():
    run = make_run()
    for benchmark in run["benchmarks"]:
        facts = benchmark["extra_info"]
        for name in ("error", "first_call_s", "percent_of_ceiling", "is_reference"):
            facts.pop(name, None)
    run["machine_info"]["papershell"] |= {"gpu": None, "libraries": {}}
    assert results.page([run]).count("|") == (len(run["benchmarks"]) + 2) * 8


def test_a_run_of_the_same_machine_and_day_gives_way(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    first, second = results.store(make_run(0)), results.store(make_run(0, slowdown={"numba, out=": 2.0}))
    assert first == second
    assert "data" not in read_run(first)["benchmarks"][0]["stats"]
    assert "node" not in read_run(first)["machine_info"]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_recorded_results_can_be_read(path):
    assert read_run(path)["benchmarks"]


def test_the_readme_is_made_from_the_recorded_results():
    written = (results.FOLDER / "README.md").read_text()
    assert written == results.page(map(read_run, RECORDED)), "run `python -m papershell.benchmarks.results`"


def test_a_gpu_is_described_by_numbers():
    found = machine.parse_gpu("NVIDIA H200, 570.86.15, 143771, 1980, 700.00")
    assert found["memory_GB"] == pytest.approx(150.8)
    assert found | {"memory_GB": 0} == {
        "name": "NVIDIA H200", "driver": "570.86.15", "memory_GB": 0, "clock_MHz": 1980, "power_limit_W": 700,
    }  # fmt: skip
    assert machine.parse_gpu("Orin, 36.4, [N/A], [N/A], [N/A]")["memory_GB"] is None


def test_this_machine_has_an_id_that_stays():
    first, second = machine.describe("Some CPU @ 2 GHz"), machine.describe("Some CPU @ 2 GHz")
    assert first["id"] == second["id"]
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", first["id"])
    assert machine.describe("Another CPU")["id"] != first["id"]


def test_the_nightly_workflow_runs_what_the_makefile_has():
    (workflow,) = (ROOT / ".github" / "workflows").glob("nightly.yml")
    (job,) = yaml.safe_load(workflow.read_text())["jobs"].values()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called = [words[1] for step in job["steps"] if (words := step.get("run", "").split())[:1] == ["make"]]
    assert called == ["nightly-data", "nightly"]
    assert set(called) <= set(targets)
    assert {entry["device"] for entry in job["strategy"]["matrix"]["include"]} == {"cpu", "cuda"}


def test_rows_compare_ours_with_the_peer_in_the_words_of_the_readmes_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(4)
    solver = next(b for b in run["benchmarks"] if b["extra_info"]["case"] == "fit_path")
    solver["extra_info"] |= {"passes": 27.0, "error": 8.1e-5, "reference_s": 212.0, "reference_gap": 2.5e-3}
    for file, made in (("newest.json", run), ("older.json", make_run(1))):
        write_run(tmp_path / file, made)
    results.main([str(tmp_path / "older.json"), str(tmp_path / "newest.json"), "--rows", "solve", "Gram"])
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert cells(head) == list(results.ROW_COLUMNS)
    found = {cells(line)[0]: cells(line) for line in lines}
    assert set(found) == {"solve, 16 rates", "Gram, 784 pixels"} and len(lines) == 2
    _, ours, peer, ratio = found["solve, 16 rates"]
    median = solver["stats"]["median"]
    assert ours == f"fit_path: {median:.3g} s, gap 8.1e-05"
    assert peer == "scikit-learn lbfgs, one by one: 212 s, gap 2.5e-03"
    assert float(ratio) == pytest.approx(solver["extra_info"]["ratio"], rel=0.06)


def test_rows_of_all_leave_references_out(capsys: pytest.CaptureFixture[str]) -> None:
    results.main(["--rows"])
    printed = capsys.readouterr().out
    newest = max(map(read_run, RECORDED), key=lambda run: run["datetime"])
    count = sum(not benchmark["extra_info"]["is_reference"] for benchmark in newest["benchmarks"])
    assert len(printed.splitlines()) == count + 2


def test_the_plugin_is_an_entry_point_of_pytest() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {runner.PLUGIN: runner.PLUGIN}  # one name, so that -p and the entry point load it once
    script = (
        f"import sys, {runner.PLUGIN}; print([n for n in ('numpy', 'numba', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
