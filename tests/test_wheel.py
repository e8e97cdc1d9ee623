"""The wheel and the source distribution, used as their readers use them: in a fresh environment, from an empty folder.

The environment also gets Hugging Face's package ``kernels``, whose name is that of a folder here. Run by
``make test-wheel``; it installs some 150 packages, which takes minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

import papershell

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[1]
SOURCES = (
    "papershell", "tests", "docs", ".ci", ".github", "pyproject.toml", "MANIFEST.in", "Makefile", "constraints.txt",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", ".gitignore",
)  # fmt: skip
RECORDED = Path("papershell/benchmarks/results")
NOT_OURS = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "MLFLOW_TRACKING_URI"}

Command = Callable[..., str]


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command as a user of the fresh environment would; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_OURS} | variables
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a checkout alone, so that nothing built earlier gets in, and without its links."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "history")
            )
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(source distribution, wheel), the wheel built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    log = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, sources, cwd=folder)
    assert "warning" not in log.lower(), log
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def install(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Install the wheel with an extra, and more, into one environment; return its folder of programs."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    pip = (
        folder / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-compile",
    )

    def with_extra(extra: str, *more: str) -> Path:
        run(*pip, "-c", ROOT / "constraints.txt", f"{built[1]}[{extra}]", *more, cwd=folder)
        return folder / "bin"

    return with_extra


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_holds_the_package_whole_and_no_recorded_results(
    sources: Path, built: tuple[Path, Path]
) -> None:
    names = set(zipfile.ZipFile(built[1]).namelist())
    information = {
        name for name in names if name.startswith(f"papershell-{papershell.__version__}.dist-info/")
    }
    assert information
    assert names - information == {
        name
        for name in files_below(sources)
        if name.startswith("papershell/") and not name.startswith(f"{RECORDED}/")
    }


def test_the_source_distribution_holds_every_source_and_its_tests_run(
    sources: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert files_below(sources) <= files_below(folder)
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    run(*pytest_, "--collect-only", "tests", cwd=folder)
    run(*pytest_, "tests/test_structure.py", "tests/kernels/test_idx.py", cwd=folder)


def test_every_documented_command_works_from_an_empty_folder(
    install: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_folder: Path
) -> None:
    """In the order in which a user adds extras; each is asked for in one sentence while it is missing."""
    mnist = mnist_folder.resolve()
    monkeypatch.setenv("PAPERSHELL_CACHE", str(tmp_path / "cache"))
    empty = tmp_path / "empty"
    empty.mkdir()
    programs = install("track", "kernels")

    def papershell_(*arguments: str) -> str:
        return run(programs / "papershell", *arguments, cwd=empty, PAPERSHELL_DATA=str(mnist))

    assert papershell_("--version") == f"papershell {papershell.__version__}\n"
    shares_nothing_with_hugging_face(programs, empty)
    papershell_("sweep", "--data", "digits", "--json", "sweep.json")
    assert json.loads((empty / "sweep.json").read_text())["best"]["test_accuracy"] > 0.9
    (digits,) = (tmp_path / "cache").iterdir()
    assert "'regularization rate': 0.8" in papershell_(
        "train", "logreg", "--data-folder", str(digits), "--regularization", "0.8", "--out", "trained"
    )
    papershell_("predict", "outputs/sklearn_mnist_model.npz", str(digits / "test-images.gz"))
    assert (empty / "predictions.csv").is_file()
    for extra, *arguments in (
        ("azure", "preflight", "logreg", "--data", "digits"),
        ("azure", "submit", "logreg", "--data", "digits", "--dry-run"),
        ("torch", "train", "torch-cifar10"),
        ("keras", "train", "keras-mnist"),
        ("bench", "bench", "run", "--smoke"),
    ):
        asks_for(extra, programs, empty, *arguments)
    asks_for("jax", programs, empty, "train", "keras-mnist", KERAS_BACKEND="jax")
    asks_for("cuda", programs, empty, "sweep", "--backend", "cupy", "--out", "none")

    install("azure")
    assert "preflight found no errors" in papershell_(
        "preflight", "logreg", "--data", "digits", "--vm-size", "STANDARD_D2s_v5"
    )
    request = papershell_("submit", "logreg", "--data", "digits", "--vm-size", "STANDARD_D2s_v5", "--dry-run")
    assert "papershell.trainers.logreg" in request

    install("bench,torch")
    assert "NumPy ssyrk" in papershell_("bench", "run", "--smoke", "--select", "gram")
    kernels_of_ones_own_are_measured(programs, tmp_path / "mine")


MINE = """
import numpy as np
import pytest
from papershell.benchmarks.case import Case, against

X = np.random.default_rng(0).random(1_000_000)
CALLS = {"sum of squares": lambda: (X * X).sum(), "dot": lambda: X @ X}


@pytest.mark.parametrize("case", CALLS)
def test_squares(measure, case):
    measure(Case.among(CALLS, case, group="squares", error=against(CALLS["dot"]()), tolerance=1e-9))
"""


def kernels_of_ones_own_are_measured(programs: Path, folder: Path) -> None:
    """A project that knows nothing of papershell's repository: pytest, and every command of the benchmarks."""
    folder.mkdir()
    (folder / "test_mine.py").write_text(MINE)
    author = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for command in (("init",), ("add", "--all"), (*author, "commit", "--message", "one")):
        run("git", *command, cwd=folder)

    def bench(*arguments: str) -> str:
        return run(programs / "papershell", "bench", *arguments, cwd=folder)

    assert "2 passed" in run(programs / "python", "-m", "pytest", "test_mine.py", cwd=folder)
    for name in ("before.json", "after.json"):
        bench("run", "test_mine.py", "--smoke", "--output", name, "--history", "history")
    assert "./test_mine.py::test_squares[dot]" in bench("compare", "before.json", "after.json")
    bench("report", "after.json", "--history", "history", "--output", "page.html")
    assert "test_squares[dot]" in (folder / "page.html").read_text()
    checked = bench(
        "check", "test_mine.py", "--against", "HEAD", "--least", "80"
    )  # others may be at work here
    assert checked.endswith("2 same\n")


def shares_nothing_with_hugging_face(programs: Path, folder: Path) -> None:
    script = "import kernels, papershell, papershell.kernels as k; print(kernels.__file__); print(k.__file__)"
    theirs, ours = map(Path, run(programs / "python", "-c", script, cwd=folder).split())
    assert theirs.parent.name == "kernels" and ours.parts[-3:] == ("papershell", "kernels", "__init__.py")
    (information,) = theirs.parents[1].glob("papershell-*.dist-info")
    tops = {file.parts[0] for file in PathDistribution(information).files or ()}
    assert tops - {".."} == {"papershell", information.name}  # `..` leads to the command in bin


def asks_for(extra: str, programs: Path, folder: Path, *arguments: str, **variables: str) -> None:
    """A command whose extra is not installed says so in one sentence, and how to install it."""
    done = subprocess.run(
        [programs / "papershell", *arguments], cwd=folder, text=True, capture_output=True,
        env={name: value for name, value in os.environ.items() if name not in NOT_OURS} | variables,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and f"pip install 'papershell[{extra}]'" in done.stderr, done.stderr
