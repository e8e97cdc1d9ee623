"""How long the report page of a long history takes to load, filter and sort: this one's, and those of commits.

    python -m tests.benchmarks.page_times [--cases 1000] [--runs 200] [--rounds 5] [COMMIT ...]

prints medians of milliseconds until all is drawn, at desktop and phone width, the pages' rounds interleaved.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from papershell.benchmarks import trees
from tests.benchmarks.browser import Page
from tests.benchmarks.conftest import chromium
from tests.benchmarks.runs import CASES, make_run

WIDTHS = {"desktop": 1440, "phone": 390}
WRITE = """
import pickle, sys
from pathlib import Path
from papershell.benchmarks.report import write_report
write_report(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
"""
UNTIL_DRAWN = """
const [texts, done] = arguments, begun = performance.now();
const frame = () => new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
const filter = document.getElementById("filter");
(async () => {
    for (const text of texts) {
        filter.value = text;
        filter.dispatchEvent(new Event("input"));
        await frame();
    }
    if (!texts.length) document.querySelectorAll("th button")[5].click();
    await frame();
    await frame();  // charts that came near the window are drawn after the first
    done(performance.now() - begun);
})();
"""
WORD = "numba"
ACTIONS = {  # texts that the filter holds one after another; none: a sort by time
    "filter": [WORD],
    "clear the filter": [""],
    "filter, by letters": [WORD[:n] for n in range(1, len(WORD) + 1)],
    "clear it": [""],
    "filter to a few": ["numba 7"],
    "sort": [],
}


def history(n_cases: int, n_runs: int) -> list[Any]:
    """Return runs of many cases: copies of the usual ones; two runs take turns."""
    copies = -(-n_cases // len(CASES))
    cases = [replace(case, group=f"{case.group} {n}") for n in range(copies) for case in CASES][:n_cases]
    nights = [make_run(i, cases=cases, rounds=3) for i in range(2)]
    return [nights[i % 2] for i in range(n_runs)]


def write_page(tree: Path, runs: Path, target: Path) -> Path:
    """Let the code of ``tree`` write the page of pickled runs."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run(
        [sys.executable, "-c", WRITE, str(runs), str(target)], env=environment, cwd=tree, check=True
    )
    return target


def times_ms(page: Page, address: str, width: int) -> dict[str, float]:
    """Load a page and act on it; return the milliseconds of each."""
    page.load(address, width=width)
    found = {"load": page.js("return performance.getEntriesByType('navigation')[0].loadEventEnd")}
    for action, texts in ACTIONS.items():
        found[action] = page.driver.execute_async_script(UNTIL_DRAWN, texts)
    return found


def compared(pages: dict[str, Path], rounds: int) -> dict[tuple[str, str, str], float]:
    """Return the median of each (width, action, page)."""
    found = defaultdict(list)
    with chromium() as driver:
        tab = Page(driver, Path())
        plan = [
            (width, name)
            for _ in range(rounds)
            for width in WIDTHS
            for name in random.sample([*pages], len(pages))
        ]
        for width, name in plan:
            for action, ms in times_ms(tab, pages[name].as_uri(), WIDTHS[width]).items():
                found[width, action, name].append(ms)
    return {key: statistics.median(values) for key, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pages, time them and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, default in {"cases": 1000, "runs": 200, "rounds": 5}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("commits", nargs="*", metavar="COMMIT")
    options = parser.parse_args(arguments)
    here = trees.repository_of(Path(__file__).parent)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (runs := folder / "runs.pickle").write_bytes(pickle.dumps(history(options.cases, options.runs)))
        found = {"now": here} | {
            name: stack.enter_context(trees.checkout(here, trees.commit_of(here, name)))
            for name in options.commits
        }
        pages = {
            name: write_page(tree, runs, folder / f"{at}.html")
            for at, (name, tree) in enumerate(found.items())
        }
        medians = compared(pages, options.rounds)
    print(f"{'ms':26s}", *(f"{name:>12s}" for name in pages))
    for width, action in dict.fromkeys(key[:2] for key in medians):
        print(f"{width + ', ' + action:26s}", *(f"{medians[width, action, name]:12.0f}" for name in pages))


if __name__ == "__main__":
    main()
