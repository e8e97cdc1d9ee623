"""Rows split over ranks: real processes under torchrun, compared with one process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from papershell.kernels import PathSolution, Status, available_backends, fit_path, rows_over_ranks
from papershell.kernels.backends import is_available
from tests.kernels.logreg_reference import ITERATION_UNIT, ON_HOST, assert_same_optimum, blobs, in_bytes

pytestmark = pytest.mark.skipif(not is_available("torch"), reason=available_backends()["torch"])

N, TOL, RATES = 403, 1e-9, [0.5, 20.0]  # three ranks cannot share so many rows equally
WEIGHT = np.arange(N) % 4 * (np.arange(N) < 260.0)  # the last rank has no row of any weight
FOLDS = np.stack([np.ones(N), np.arange(N) % 2, np.arange(N) > 200])  # nor has the first, in the last fold
CASES = {f"{loss} on {name}": (loss, name) for loss, name in product(("multinomial", "ovr"), ON_HOST)}


def fit(case: str) -> PathSolution:
    """Fit one of the cases, on however many ranks there are."""
    loss, backend = CASES[case]
    X, y = blobs(N, 12)
    return fit_path(
        in_bytes(X), y, RATES, loss=loss, backend=backend,
        scale=1 / 255, tol=TOL, folds=FOLDS, sample_weight=WEIGHT,
    )  # fmt: skip


def under_torchrun(folder: Path, ranks: int, body: str, timeout_s: float = 120):
    """Run ``body`` on so many ranks, with ``rank`` set."""
    script = folder / "script.py"
    head = "import numpy as np\nfrom papershell import fit_path, rows_over_ranks\nwith rows_over_ranks() as rank:\n"
    script.write_text(head + textwrap.indent(textwrap.dedent(body), "    "))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, script], cwd=folder, env=environment, timeout=timeout_s, capture_output=True, text=True
    )


def test_three_ranks_find_what_one_process_finds(tmp_path):
    body = """
        from tests.kernels.test_ranks import CASES, fit
        for case in CASES:
            found = vars(fit(case))
            found["status"] = np.array([[s.name for s in row] for row in found["status"]])
            np.savez(f"{case} {rank}.npz", **found)
    """
    done = under_torchrun(tmp_path, 3, body)
    assert done.returncode == 0, done.stderr
    for case in CASES:
        assert_same_on_all(case, *(dict(np.load(tmp_path / f"{case} {rank}.npz")) for rank in range(3)))


def assert_same_on_all(case: str, first: dict, second: dict, third: dict) -> None:
    """Assert that three ranks have one solution, and one process the same."""
    alone = fit(case)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=case)
        np.testing.assert_array_equal(values, third[name], err_msg=case)
    assert (first["status"] == "GRADIENT").all() and (alone.status == Status.GRADIENT).all(), case
    assert str(first["backend"]) == alone.backend
    np.testing.assert_allclose(first["loss"], alone.loss, rtol=ITERATION_UNIT, err_msg=case)
    total = (FOLDS * WEIGHT).sum(axis=1)
    for f, r in product(range(len(FOLDS)), range(len(RATES))):
        theirs = first["coef"][f, r], first["intercept"][f, r]
        assert_same_optimum(theirs, (alone.coef[f, r], alone.intercept[f, r]), RATES[r], total[f], TOL)


def test_ranks_share_the_rows_of_one_mapped_file_of_halves(tmp_path):
    X, y = blobs(N, 12)
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    np.save(tmp_path / "y.npy", y)
    body = """
        from papershell.kernels.logreg.path import Settings
        X, y = np.load("X.npy", mmap_mode="r"), np.load("y.npy")
        kept, recomputed = (
            fit_path(X, y, [0.5, 20.0], gap=1e-8, settings=Settings(logits_bytes=room)) for room in (1 << 20, 1)
        )
        np.save(f"loss {rank}", [kept.loss, recomputed.loss])
    """
    done = under_torchrun(tmp_path, 2, body)
    assert done.returncode == 0, done.stderr
    alone = fit_path(X.astype(np.float16).astype(np.float64), y, RATES, gap=1e-8, backend="numpy")
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"loss {rank}.npy"), [alone.loss] * 2, rtol=1e-8)


def test_whatever_goes_wrong_ends_on_every_rank_with_its_reason(tmp_path):
    body = """
        def stop(passes, left, norm):
            raise KeyError("stopped")

        X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
        faults = {
            "too few rows": lambda: fit_path(X[:2], [0, 1], 1.0),
            "other arguments": lambda: fit_path(X[: 60 - 3 * rank], y[: 60 - 3 * rank], 1.0),
            "rank 0 fails": lambda: fit_path(X, y, 1.0, callback=stop),
        }
        for name, fault in faults.items():
            try:
                fault()
            except Exception as error:
                with open(f"{name} {rank}", "w") as file:
                    file.write(f"{type(error).__name__}: {error}")
        np.save(f"after {rank}", fit_path(X, y, 1.0).coef)
    """
    done = under_torchrun(tmp_path, 3, body)
    assert done.returncode == 0, done.stderr
    said = {
        path.name: path.read_text() for path in tmp_path.iterdir() if path.name[-2:] in (" 0", " 1", " 2")
    }
    assert len(said) == 9
    for rank in range(3):
        assert "2 rows cannot be split over 3 ranks; start fewer" in said[f"too few rows {rank}"]
        assert "rank 0 fits float64 X of shape (60, 4)" in said[f"other arguments {rank}"]
        assert "but rank 1 fits float64 X of shape (57, 4)" in said[f"other arguments {rank}"]
    assert said["rank 0 fails 0"] == "KeyError: 'stopped'"
    assert (
        said["rank 0 fails 1"]
        == said["rank 0 fails 2"]
        == "RuntimeError: rank 0 failed; its own message says why"
    )
    after = [np.load(tmp_path / f"after {rank}.npy") for rank in range(3)]
    assert np.isfinite(after[0]).all() and all(np.array_equal(coef, after[0]) for coef in after)


def test_a_rank_that_dies_ends_all(tmp_path):
    """The command must fail by itself; else this waits in vain and fails."""
    body = """
        import os, threading
        if rank == 1:
            threading.Timer(1.0, os._exit, (3,)).start()
        X, y = np.random.default_rng(0).normal(size=(6000, 40)), np.arange(6000) % 3
        while True:
            fit_path(X, y, [1e-3, 1.0], backend="numpy", tol=1e-9)
    """
    assert under_torchrun(tmp_path, 2, body, timeout_s=60).returncode == 1


def test_without_torchrun_this_process_is_the_first_of_one():
    X, y = blobs()
    with rows_over_ranks() as rank:
        assert rank == 0
        inside = fit_path(X, y, 1.0)
    np.testing.assert_array_equal(inside.coef, fit_path(X, y, 1.0).coef)
