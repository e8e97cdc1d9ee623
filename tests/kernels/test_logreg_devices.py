"""The array-namespace code of the solver: on PyTorch tensors of the host, and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from papershell.kernels import Status, available_backends, fit_path
from papershell.kernels.backends import is_available
from papershell.kernels.logreg import preconditioner
from papershell.kernels.logreg.path import Settings
from papershell.kernels.logreg.problem import Problem, Samples
from tests.conftest import require_gpu
from tests.kernels import compiled_cuda
from tests.kernels.logreg_reference import TIGHT, assert_same_optimum, blobs, check, in_bytes

RATES = [1e-2, 1.0, 100.0]


@pytest.fixture(params=["formulas", "kernel"])
def host_tensors(request, monkeypatch, tmp_path):
    """Make "torch" the engine of a CUDA device, with its arrays on the host, one thread, and its kernel or none."""
    if not is_available("torch"):
        pytest.skip(available_backends()["torch"])
    import torch

    from papershell.kernels.logreg import on_torch, on_torch_cuda

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
    options.pop("settings", None)
    check(solution, X * scale, y, RATES, tol=tol, **options)
    assert all(status.reached for status in solution.status.ravel())
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


SIZES = {
    "eigenvectors": {"leading": 8},
    "few eigenvectors": {"leading": 8, "largest_gram": 16},
    "drawn rows": {
        "gram_rows": 64,
        "candidate_rows": 80,
        "drawn_rows": 48,
        "drawn_for_class": 24,
        "drawn_products": 0,
    },
    "by class": {"leading": 8, "largest_dense": 1},
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_tensors_with_every_preconditioner(host_tensors, fit_intercept, sizes):
    X, y = blobs(150, 40)
    settings = Settings(preconditioner=preconditioner.Settings(**sizes))
    assert_like_the_reference(X, y, "torch", fit_intercept=fit_intercept, tol=1e-7, settings=settings)


def test_tensors_of_a_warm_start_and_a_rate_that_runs_out(host_tensors):
    X, y = blobs()
    cold = fit_path(X, y, RATES, tol=1e-4, backend="torch")
    assert (fit_path(X, y, RATES, tol=1e-4, backend="torch", warm_start=cold).n_iter <= 1).all()
    short = fit_path(X, y, [1e-3, 1e6], max_iter=2, backend="torch")
    assert short.status.tolist() == [Status.MAX_ITER, Status.PROVEN]
    check(short, X, y, [1e-3, 1e6], tol=1e-4)


@pytest.mark.parametrize("kept", ["on the device", "on the host"])
def test_tensors_whose_logits_do_not_fit(host_tensors, kept, monkeypatch):
    from papershell.kernels.logreg import on_torch_cuda

    X, y = blobs(600)  # three blocks
    monkeypatch.setattr(on_torch_cuda, "is_large", lambda size, device: kept == "on the host" and size > 600)
    assert_like_the_reference(X, y, "torch", settings=Settings(logits_bytes=1))


@pytest.mark.parametrize("host_tensors", ["formulas"], indirect=True)
@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("kind", ["floats", "bytes"])
def test_no_operation_mixes_host_and_device(host_tensors, kind, K, monkeypatch):
    """On PyTorch's device "meta" operands of the host raise, as on CUDA; there are shapes but no data."""
    import torch

    from papershell.kernels.logreg import on_torch_cuda

    monkeypatch.setattr(
        on_torch_cuda.FloatsEngine, "to_host", lambda self, values: np.zeros(tuple(values.shape))
    )
    monkeypatch.setattr(on_torch_cuda.FloatsEngine, "kernel", lambda self, name: lambda *launch: None)
    X, y = blobs()
    data = Samples(in_bytes(X) if kind == "bytes" else X, y, np.ones((1, len(y))), 3, 1 / 255, True)
    engine = on_torch_cuda.Engine(data, "meta")
    for number in (0, 1):
        engine.work_on(number, Problem(0, 1 if K == 1 else None, np.ones(11), np.ones(max(2, K)), 1.0, 1.0))
    theta = torch.zeros((2, K, 11), dtype=torch.float64, device="meta")
    for precision in range(len(engine.precisions)):
        engine.set_logits([0, 1], theta, precision)
        engine.set_direction([0, 1], theta, precision)
        loss, gradient = engine.gradient([0, 1], np.ones(2), precision)
        assert loss.shape == (2,) and gradient.device.type == "meta" and gradient.shape == theta.shape
        assert gradient.dtype is torch.float64
    engine.shift(0, np.ones(K))
    engine.release(0)


@pytest.mark.parametrize("max_iter", [0, 1, 6])
def test_no_problem_takes_more_steps_than_allowed(host_tensors, max_iter):
    X, y = blobs()
    few = Settings(preconditioner=preconditioner.Settings(leading=2))  # Newton's method needs six steps
    path = fit_path(X, y, [1e-3, 1e6], max_iter=max_iter, tol=1e-7, backend="torch", settings=few)
    assert path.n_iter[0] == max_iter and path.status[0] is Status.MAX_ITER
    check(path, X, y, [1e-3, 1e6], tol=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["floats", "bytes", "wide"])
@pytest.mark.parametrize("loss", ["multinomial", "ovr"])
@pytest.mark.parametrize("backend", ["cupy", "torch"])
def test_a_gpu_agrees_with_the_reference(backend, loss, kind):
    require_gpu(backend)
    X, y = blobs(500, 300 if kind == "wide" else 10)
    X, scale = (in_bytes(X), 1 / 255) if kind == "bytes" else (X, 1.0)
    folds = np.arange(len(y)) % 3 != np.arange(3)[:, None]
    assert_like_the_reference(X, y, backend, loss=loss, scale=scale, folds=folds)


@pytest.mark.gpu
def test_pytorch_runs_on_the_gpu_where_there_is_one():
    require_gpu("torch")
    from papershell.kernels.logreg import on_torch, on_torch_cuda

    X, y = blobs()
    for data, kind in ((X, on_torch_cuda.FloatsEngine), (in_bytes(X), on_torch_cuda.BytesEngine)):
        engine = on_torch.Engine(Samples(data, y, np.ones((1, len(y))), 3, 1.0, True))
        assert type(engine) is kind and engine.X.is_cuda
        assert engine.kernel("residual_float64") is not None
