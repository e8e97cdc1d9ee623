"""The array-namespace code of the solver: on PyTorch tensors of the host, and on a GPU where there is one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from papershell.kernels import Status, available_backends, fit_path
from papershell.kernels.backends import is_available
from papershell.kernels.logreg import coordinates, on_cuda, precondition, solver
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
    monkeypatch.setattr(on_cuda.CudaEngine, "batch", 2)
    assert_like_the_reference(*blobs(), "torch", tol=1e-7)


def test_tensors_of_a_warm_start_and_a_rate_that_runs_out(host_tensors):
    X, y = blobs()
    cold = fit_path(X, y, RATES, backend="torch")
    assert (fit_path(X, y, RATES, backend="torch", warm_start=cold).n_iter <= 1).all()
    short = fit_path(X, y, [1e-3, 1e6], max_iter=2, backend="torch")
    assert short.status.tolist() == [Status.MAX_ITER, Status.PROVEN]
    check(short, X, y, [1e-3, 1e6], tol=1e-4)


@pytest.mark.parametrize("kind", ["floats", "bytes"])
def test_passes_between_two_looks_wait_for_nothing(host_tensors, kind, monkeypatch):
    """On a device these calls copy to or from the host, which waits until all queued work is done."""
    import torch
    from torch.overrides import TorchFunctionMode

    waiting = {
        getattr(torch.Tensor, name)
        for name in ("__bool__", "__float__", "__int__", "__array__", "item", "numpy", "tolist", "nonzero")
    } | {torch.nonzero, torch.masked_select, torch.linalg.inv}

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            given = [part for a in args for part in (a if isinstance(a, tuple) else (a,))]
            masks = function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and any(
                isinstance(a, torch.Tensor) and a.dtype is torch.bool for a in given[1:]
            )
            if masks or function in waiting or any(isinstance(a, np.ndarray) for a in given):
                seen[-1].append(function.__name__)
            return function(*args, **kwargs or {})

    seen: list[list[str]] = []
    advance = solver.advance

    def watched(*args) -> None:
        seen.append([])
        with Watch():
            advance(*args)

    monkeypatch.setattr(solver, "advance", watched)
    X, y = blobs()
    X, scale = (in_bytes(X), 1 / 255) if kind == "bytes" else (X, 1.0)
    looks: list[int] = []
    path = fit_path(
        X, y, RATES, scale=scale, tol=1e-6, backend="torch", callback=lambda *c: looks.append(c[0])
    )
    assert all(status.reached for status in path.status)
    assert looks == list(range(1, len(seen), 4)) and len(looks) > 3
    assert all(not calls for number, calls in enumerate(seen) if number % 4), seen


def on_meta(value):
    """Return what holds tensors with each on PyTorch's device "meta", which has shapes but no data."""
    import torch

    if isinstance(value, torch.Tensor):
        return torch.empty_like(value, device="meta")
    if isinstance(value, list):
        return [on_meta(part) for part in value]
    if is_dataclass(value):
        return replace(value, **{field.name: on_meta(getattr(value, field.name)) for field in fields(value)})
    return value


@pytest.mark.parametrize("host_tensors", ["formulas"], indirect=True)
@pytest.mark.parametrize("leading", [8, 256], ids=["beyond the blocks", "dense"])
@pytest.mark.parametrize("kind", ["floats", "bytes"])
def test_no_pass_mixes_host_and_device_or_asks_for_a_number(host_tensors, kind, leading, monkeypatch):
    """On "meta" operands of the host raise, as on CUDA, and so does every question that a queue cannot answer."""
    from papershell.kernels.logreg import on_torch_cuda
    from papershell.kernels.logreg.products import Samples

    monkeypatch.setattr(on_torch_cuda.FloatsEngine, "kernel", lambda self, name: lambda *launch: None)
    for module in (coordinates, precondition):
        monkeypatch.setattr(module, "LEADING", leading)
    monkeypatch.setattr(precondition, "SAMPLED_ROWS", 48)
    X, y = blobs()
    X, A = in_bytes(X) if kind == "bytes" else X, 5
    data = Samples(X, y, np.ones((1, len(y))), 3, "multinomial", 1 / 255, True)
    host, device = (on_torch_cuda.Engine(data, name) for name in ("cpu", "meta"))
    objectives = [
        solver.Objective(
            engine, engine, np.zeros(A, int), *map(engine.array, (np.ones((A, 11)), np.ones(A))), np.arange(A)
        )
        for engine in (host, device)
    ]
    state = on_meta(solver.start(objectives[0], host.array(np.zeros((A, 3, 11)))))
    for grades in (A * [0], A * [1], A * [len(host.grades) - 1], [0, 1, 1, 0, 1]):
        state.grade = np.array(grades)
        solver.advance(objectives[1], state, 100)
    metric = precondition.metric_at(
        device, state.metric.basis, state.theta, np.zeros(A, int), objectives[1].ridge
    )
    for tensor in (state.theta, state.direction, metric.leading, metric.diagonal):
        assert tensor.device.type == "meta" and tensor.shape[:1] == (A,)


@pytest.mark.parametrize("max_iter", [0, 1, 6])
def test_no_problem_takes_more_steps_than_allowed_between_two_looks(host_tensors, max_iter):
    X, y = blobs()
    path = fit_path(X, y, [1e-3, 1e6], max_iter=max_iter, tol=1e-7, backend="torch")
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
    from papershell.kernels.logreg.products import Samples

    X, y = blobs()
    for data, kind in ((X, on_torch_cuda.FloatsEngine), (in_bytes(X), on_torch_cuda.BytesEngine)):
        engine = on_torch.Engine(Samples(data, y, np.ones((1, len(y))), 3, "multinomial", 1.0, True))
        assert type(engine) is kind and engine.X.is_cuda
        assert engine.kernel("residual_float64") is not None
