"""Problems whose logits do not fit the budget: the same answers and proofs, and no more memory than is stated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from papershell.kernels import Status, fit_path
from papershell.kernels.logreg.path import Settings
from tests.kernels.logreg_reference import (
    ITERATION_UNIT,
    ON_HOST,
    TIGHT,
    assert_same_optimum,
    blobs,
    check,
    in_bytes,
)

NOTHING = Settings(logits_bytes=1)  # blocks of 256 rows
on_every_host = pytest.mark.parametrize("backend", ON_HOST)
FOLDS = np.arange(600) % 3 != np.arange(3)[:, None]
CASES = {
    "two classes": (2, [1.0], {}),
    "rates and folds": (3, [0.1, 30.0], {"folds": FOLDS}),
    "classes along the row": (60, [1.0], {}),
    "weights, one against the rest": (3, [1.0], {"loss": "ovr", "sample_weight": 0.5 + np.arange(600) % 2}),
    "penalized intercept": (3, [1.0], {"penalize_intercept": True}),
    "no intercept": (3, [1.0], {"fit_intercept": False}),
    "standardized": (3, [1.0], {"standardize": True}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@on_every_host
def test_recomputed_logits_lead_to_the_same_answer(backend, case):
    K, rates, options = case
    X, y = blobs(600, 6, K)
    kept, found = (
        fit_path(X, y, rates, tol=TIGHT, backend=backend, settings=settings, **options)
        for settings in (None, NOTHING)
    )
    assert (found.status == Status.GRADIENT).all() and (kept.status == Status.GRADIENT).all()
    np.testing.assert_allclose(found.loss, kept.loss, rtol=ITERATION_UNIT)
    points = ((path.coef.reshape(-1, K, 6), path.intercept.reshape(-1, K)) for path in (found, kept))
    weakest = (
        min(rates) * (X.std(axis=0) ** 2).min()
    )  # a penalty on standardized weights is one on the others
    for ours, theirs in zip(*(zip(*point, strict=True) for point in points), strict=True):
        assert_same_optimum(ours, theirs, weakest, len(y), TIGHT)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@on_every_host
def test_the_proof_is_as_good(backend, kind):
    X, y = blobs(600)
    X, scale = (in_bytes(X), 1 / 255) if kind == "uint8" else (X.astype(kind), 1.0)
    options = {"scale": scale, "backend": backend, "gap": 1e-7}
    kept, found = (fit_path(X, y, [0.1, 10.0], settings=s, **options) for s in (None, NOTHING))
    assert (found.status == Status.PROVEN).all() and (found.gap <= 1e-7).all()
    assert (np.abs(found.loss / kept.loss - 1.0) <= np.maximum(found.gap, kept.gap) + ITERATION_UNIT).all()


@on_every_host
def test_without_a_penalty_tol_decides(backend):
    X, y = blobs(600, spread=3.0)
    found = fit_path(X, y, 0.0, tol=1e-6, backend=backend, settings=NOTHING)
    check(found, X, y, 0.0, tol=1e-6)
    assert found.status[0] is Status.GRADIENT and found.gap[0] == np.inf


@on_every_host
def test_separable_classes_without_a_penalty_have_no_optimum(backend):
    X, y = blobs(600, spread=0.01)
    assert fit_path(X, y, 0.0, tol=1e-3, backend=backend, settings=NOTHING).status[0] is Status.NO_OPTIMUM


@pytest.mark.parametrize("budget", [0, -1, 0.5, "2 GiB", None])
def test_a_bad_budget_is_one_sentence(budget):
    with pytest.raises(ValueError, match=r"settings\.logits_bytes must be a whole number") as caught:
        fit_path(*blobs(), 1.0, settings=Settings(logits_bytes=budget))
    assert "\n" not in str(caught.value)


MEMORY = """
import json, sys
import numpy as np
from papershell.benchmarks.inputs import Peak
from papershell.kernels import fit_path
from papershell.kernels.logreg.cost import work_bytes
from papershell.kernels.logreg.path import Settings

N, P, K, budget = 300_000, 48, 64, 4 << 20
X = np.random.default_rng(0).integers(0, 100, (N, P), dtype=np.uint8)
y = np.arange(N) % K
options = {"scale": 0.01, "backend": sys.argv[1], "settings": Settings(logits_bytes=budget)}
fit_path(X[:30_000], y[:30_000], 1.0, max_iter=1, **options)
with Peak() as peak:
    fit_path(X, y, 1.0, max_iter=2, **options)
print(json.dumps([peak.highest, work_bytes(N, P, K, 1, X.dtype, budget), 16 * N * K]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is read from /proc")
@pytest.mark.parametrize(
    "backend", [name if name == "numba" else pytest.param(name, marks=pytest.mark.slow) for name in ON_HOST]
)
def test_memory_stays_within_the_budget_and_the_stated_work_space(backend):
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, backend],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    taken, stated, logits = json.loads(done.stdout.splitlines()[-1])
    assert taken <= stated
    assert logits > 2 * stated, "kept logits must not fit what is stated"
