"""The array-namespace code of the solver: on PyTorch tensors of the host, and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import Status, available_backends, fit_path
from kernels.backends import is_available
from kernels.logreg import coordinates, precondition
from tests.kernels import compiled_cuda
from tests.kernels.logreg_reference import TIGHT, assert_same_optimum, blobs, check, in_bytes

RATES = [1e-2, 1.0, 100.0]


@pytest.fixture(params=["formulas", "kernel"])
def host_tensors(request, monkeypatch, tmp_path):
    """Make "torch" the engine of a CUDA device, with its arrays on the host, one thread, and its kernel or none."""
    if not is_available("torch"):
        pytest.skip(available_backends()["torch"])
    import torch

    from kernels.logreg import on_torch, on_torch_cuda

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(on_torch, "Engine", lambda samples: on_torch_cuda.Engine(samples, device="cpu"))
    if request.param == "kernel":
        kernel = compiled_cuda.build(tmp_path)
        monkeypatch.setattr(on_torch_cuda.FloatsEngine, "kernel", lambda self, name: kernel(name))
    yield
    torch.set_num_threads(threads)


def assert_like_the_reference(X, y, backend: str, *, tol=TIGHT, **options) -> None:
    """Solve on ``backend`` and with NumPy: each rate at its optimum, and at the same one."""
    solution, reference = (
        fit_path(X, y, RATES, tol=tol, backend=name, **options) for name in (backend, "numpy")
    )
    scale = options.pop("scale", 1.0)
    options["weight"] = options.pop("sample_weight", None)
    check(solution, X * scale, y, RATES, tol=tol, **options)
    assert all(status is Status.CONVERGED for status in solution.status.ravel())
    shape = (-1, *solution.coef.shape[-2:])
    for one, other, b, c, rate in zip(
        solution.coef.reshape(shape), reference.coef.reshape(shape),
        solution.intercept.reshape(shape[:2]), reference.intercept.reshape(shape[:2]),
        RATES * (solution.status.size // len(RATES)), strict=True,
    ):  # fmt: skip
        assert_same_optimum((one, b), (other, c), rate, len(y), tol)


@pytest.mark.parametrize("intercept", [{}, {"fit_intercept": False}, {"penalize_intercept": True}])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_tensors_reach_the_optimum(host_tensors, loss, intercept):
    X, y = blobs()
    assert_like_the_reference(X, y, "torch", loss=loss, **intercept)


@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
def test_tensors_of_bytes_with_folds_and_weights(host_tensors, loss):
    X, y = blobs()
    folds = np.arange(len(y)) % 3 != np.arange(3)[:, None]
    weight = 0.5 + np.arange(len(y)) % 2
    assert_like_the_reference(
        in_bytes(X), y, "torch", scale=1 / 255, loss=loss, folds=folds, sample_weight=weight
    )


@pytest.mark.parametrize("largest_gram", [64, 16], ids=["eigenvectors", "dual"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_tensors_with_more_features_than_have_dense_blocks(
    host_tensors, fit_intercept, largest_gram, monkeypatch
):
    for module in (coordinates, precondition):
        monkeypatch.setattr(module, "LEADING", 8)
    monkeypatch.setattr(coordinates, "LARGEST_GRAM", largest_gram)
    X, y = blobs(150, 40)
    assert_like_the_reference(X, y, "torch", fit_intercept=fit_intercept, tol=1e-7)


def test_tensors_of_drawn_rows(host_tensors, monkeypatch):
    monkeypatch.setattr(coordinates, "GRAM_ROWS", 64)
    monkeypatch.setattr(coordinates, "CANDIDATES", 80)
    monkeypatch.setattr(precondition, "SAMPLED_ROWS", 48)
    monkeypatch.setattr(precondition, "LARGEST_METRIC_BYTES", 1)
    assert_like_the_reference(*blobs(), "torch", tol=1e-7)


def test_tensors_of_a_warm_start_and_a_rate_that_runs_out(host_tensors):
    X, y = blobs()
    cold = fit_path(X, y, RATES, backend="torch")
    assert (fit_path(X, y, RATES, backend="torch", warm_start=cold).n_iter <= 1).all()
    short = fit_path(X, y, [1e-3, 1e6], max_iter=2, backend="torch")
    assert short.status.tolist() == [Status.MAX_ITER, Status.CONVERGED]
    check(short, X, y, [1e-3, 1e6], tol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["floats", "bytes", "wide"])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("backend", ["cupy", "torch"])
def test_a_gpu_agrees_with_the_reference(cuda, backend, loss, kind):
    if not is_available(backend):
        pytest.skip(available_backends()[backend])
    X, y = blobs(500, 300 if kind == "wide" else 10)
    X, scale = (in_bytes(X), 1 / 255) if kind == "bytes" else (X, 1.0)
    folds = np.arange(len(y)) % 3 != np.arange(3)[:, None]
    assert_like_the_reference(X, y, backend, loss=loss, scale=scale, folds=folds)


@pytest.mark.gpu
def test_pytorch_runs_on_the_gpu_where_there_is_one(cuda):
    import torch

    from kernels.logreg import on_torch
    from kernels.logreg.products import Samples

    if not torch.cuda.is_available():
        pytest.skip("this PyTorch is built without CUDA")
    X, y = blobs()
    engine = on_torch.Engine(Samples(X, y, np.ones((1, len(y))), 3, "multinomial", 1.0, True))
    assert isinstance(engine, on_torch.CudaEngine) and engine.X.is_cuda
