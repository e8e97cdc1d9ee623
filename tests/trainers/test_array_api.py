"""The estimators take arrays of other libraries: without array API dispatch here, with it in a process apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from papershell.kernels import arrays
from papershell.trainers.logreg import LogisticRegression, LogisticRegressionCV

X, Y = load_iris(return_X_y=True)


def run_with_scipys_array_api(*arguments: str) -> None:
    """Run pytest in a process in which SciPy, and so scikit-learn, takes arrays of other libraries."""
    pytest.importorskip("array_api_strict")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        env=os.environ | {"SCIPY_ARRAY_API": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


def test_the_estimators_support_array_api_dispatch():
    run_with_scipys_array_api(str(Path(__file__).with_name("array_api_checks.py")))


@pytest.mark.slow
def test_scikit_learns_own_array_api_tests_of_logistic_regression():
    run_with_scipys_array_api(
        str(Path(__file__).with_name("test_sklearn_logistic.py")), "-k", "test_logistic_regression_array_api"
    )


@pytest.mark.parametrize("kind", arrays.KEPT)
@pytest.mark.parametrize("make", [LogisticRegression, lambda: LogisticRegressionCV(Cs=[0.1, 1.0], cv=3)])
def test_without_dispatch_every_type_gives_numpy_arrays(make, kind):
    torch = pytest.importorskip("torch")
    tensor = torch.as_tensor(X).to(getattr(torch, kind))
    wide = tensor.to(torch.float64).numpy()
    plain = make().set_params(max_iter=1000).fit(wide, Y)
    for data, labels in ((tensor, torch.as_tensor(Y)), (arrays.where_it_lies(tensor), Y.tolist())):
        model = make().set_params(max_iter=1000).fit(data, labels)
        assert type(model.coef_) is np.ndarray and model.n_features_in_ == 4
        np.testing.assert_array_equal(model.predict(data), plain.predict(wide))
        assert model.score(data, labels) == plain.score(wide, Y)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_give_the_names_of_their_features(library):
    module = pytest.importorskip(library)
    names = [f"feature {j}" for j in range(4)]
    frame = module.DataFrame({name: X[:, j].astype(np.float32) for j, name in enumerate(names)})
    for model in (LogisticRegression(), LogisticRegressionCV(Cs=2, cv=3)):
        model.set_params(max_iter=1000).fit(frame, module.Series(Y))
        assert model.feature_names_in_.tolist() == names
        assert model.score(frame, module.Series(Y)) > 0.9
        with pytest.raises(ValueError, match="feature names"):
            model.predict(
                frame.rename(
                    {"feature 0": "other"} if library == "polars" else lambda n: n + "x",
                    **({} if library == "polars" else {"axis": 1}),
                )
            )
