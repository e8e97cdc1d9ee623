"""Every example of the pages does what the page says; `tests.examples` says how examples are written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from papershell.orchestration import loopback
from tests.examples import Block, blocks, check

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
# A block of another language is prose; a shell's or an unnamed one would escape the check.
LANGUAGES = {"console", "python", "text", "json", "yaml"}


@pytest.fixture
def reader(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and the settings of somebody who has just installed papershell.

    Workspaces that an example left served there end with the test.
    """
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name in ("CACHE", "WORKSPACE"):  # which lie in the user's own folders otherwise
        monkeypatch.setenv(f"PAPERSHELL_{name}", str(project / f".{name}"))
    yield project
    for folder in project.iterdir():
        loopback.stop(folder)


QUICK = [pytest.param(page, False, id=page.stem) for page in PAGES]
SLOW = [
    pytest.param(page, True, id=f"{page.stem}-whole", marks=pytest.mark.slow)
    for page in PAGES
    if any("slow" in block.clauses for block in blocks(page.read_text()))
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("page", "slow"), QUICK + SLOW)
def test_every_example_prints_what_the_page_shows(
    page: Path, slow: bool, reader: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``slow`` runs the blocks marked so, too: after the blocks before them, on which they may build."""
    data = os.environ.get("PAPERSHELL_DATA", "data")
    monkeypatch.setenv("PAPERSHELL_DATA", str(Path(request.config.invocation_params.dir, data).resolve()))

    def may_run(block: Block) -> bool:
        if "data" in block.clauses:
            request.getfixturevalue("mnist_folder")
        return slow or "slow" not in block.clauses

    check(page.read_text(), reader, may_run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_block_escapes_the_check_and_every_file_named_exists(page: Path) -> None:
    text = page.read_text()
    assert {block.language for block in blocks(text)} <= LANGUAGES
    assert text.count("```") == 2 * len(list(blocks(text)))
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"
    for name in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|md|txt|toml|html))`", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_the_checker_accepts_what_agrees(tmp_path: Path) -> None:
    page = """
```console
$ echo 'took 1.05 s'; \\
  echo and more; echo; echo last
took ... s
...
last
$ true
```
<!-- numbers within 10 %; exits 3 -->
```console
$ echo 'a    1,050 b'; exit 3
a 1,000 b
```
```python
x = 20
print(x + 1)
# -> 21
open("made.txt", "w").close()
```
<!-- not run: it would fail -->
```console
$ exit 1
```
<!-- slow -->
```python
raise SystemExit
```
```python
assert x == 20
```
```console
$ ls
made.txt
```
"""
    check(page, tmp_path, lambda block: "slow" not in block.clauses)


@pytest.mark.parametrize(
    "block",
    [
        "```console\n$ echo 1.2\n1.3\n```",
        "<!-- numbers within 5 % -->\n```console\n$ echo 1.2\n1.3\n```",
        "```console\n$ echo more\n```",
        "```console\n$ true\nmore\n```",
        "```console\n$ exit 1\n```",
        "<!-- exits 2 -->\n```console\n$ true\n```",
        "```console\n$ echo a; echo b\nb\n```",
        "```python\nprint(1)\n```",
        "```python\n1  # -> 1\n```",
        "```python\nraise KeyError\n```",
    ],
)
def test_the_checker_refuses_what_differs(block: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(f"{block}\n", tmp_path, lambda _: True)


@pytest.mark.parametrize("block", ["<!-- slwo -->\n```console\n$ true\n```", "```console\ntrue\n```"])
def test_the_checker_refuses_what_it_does_not_understand(block: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"slwo|begins with"):
        check(f"{block}\n", tmp_path, lambda _: True)
