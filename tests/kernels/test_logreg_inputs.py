"""`fit_path` takes features and labels of any library and type where they lie: the same optimum, no copy of X."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from papershell.kernels import arrays, fit_path
from papershell.kernels.backends import is_available
from papershell.kernels.logreg import on_cpu
from tests.kernels.logreg_reference import ON_HOST, blobs, check

X, Y = blobs()
RATES = [0.1, 30.0]
TOL = 1e-6
ON_CPU = [name for name in ON_HOST if name != "torch"]


def typed(kind: str) -> np.ndarray:
    """The blobs in a type, rounded as it must."""
    if kind == "bfloat16":
        return X.astype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.rint(X * 8 + (40 if kind == "uint8" else 0)).astype(kind) if "int" in kind else X.astype(kind)


@pytest.mark.parametrize("backend", ON_HOST)
@pytest.mark.parametrize("kind", arrays.KEPT)
def test_every_type_is_fitted_as_it_is(kind, backend):
    data = typed(kind)
    path = fit_path(data, Y, RATES, scale=0.1 if "int" in kind else None, tol=TOL, backend=backend)
    check(path, data.astype(np.float64) * (0.1 if "int" in kind else 1.0), Y, RATES, tol=TOL)
    assert all(status.reached for status in path.status)


@pytest.mark.parametrize("backend", ON_HOST)
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_badly_scaled_features_of_every_type_are_standardized_in_blocks(kind, backend):
    scales = np.repeat([1.0, 1e3, 1e-3], (4, 3, 3))
    data = (typed(kind).astype(np.float64) * scales + 0.25 * scales).astype(typed(kind).dtype)
    path = fit_path(data, Y, RATES, tol=1e-5, gap=1e-4, backend=backend)
    wide = data.astype(np.float64)
    for r, rate in enumerate(RATES):
        truth = fit_path(wide, Y, rate, gap=1e-9, backend="numpy")
        assert path.loss[r] * (1 - path.gap[r]) <= truth.loss[0] * (1 + 1e-9)
        assert path.gap[r] <= 1e-4


def test_every_finite_half_is_widened_exactly():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 2)
    expected = halves.astype(np.float32)
    np.testing.assert_array_equal(arrays.floats(halves).view(np.uint32), expected.view(np.uint32))
    for dtype in (np.float32, np.float64):
        out = np.empty(halves.shape, dtype)
        on_cpu.widen(halves.view(np.uint16), out)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(np.signbit(out), np.signbit(expected))
    assert arrays.largest_magnitude(halves) == 65504.0
    assert not np.isfinite(arrays.largest_magnitude(np.array([1.0, -np.inf], np.float16)))


MAKERS = {
    "torch": lambda module, a: module.from_numpy(a),
    "torch, bfloat16": lambda module, a: module.from_numpy(a).to(module.bfloat16),
    "torch, with a gradient": lambda module, a: module.from_numpy(a).requires_grad_(),
    "jax": lambda module, a: module.numpy.asarray(a),
    "jax, bfloat16": lambda module, a: module.numpy.asarray(a, dtype="bfloat16"),
    "array_api_strict": lambda module, a: module.asarray(a),
    "pandas": lambda module, a: module.DataFrame(a) if a.ndim == 2 else module.Series(a, index=2 * Y),
    "polars": lambda module, a: module.DataFrame(a) if a.ndim == 2 else module.Series(a),
}


@pytest.mark.parametrize("backend", ON_HOST)
@pytest.mark.parametrize("container", MAKERS)
def test_every_container_is_the_same_data(container, backend):
    module, make = pytest.importorskip(container.split(",")[0]), MAKERS[container]
    given = make(module, X.astype(np.float32))
    plain = MAKERS[container.split(",")[0]]
    labels, weight = plain(module, Y.astype(np.int32)), plain(module, np.ones(len(Y), np.float32))
    path = fit_path(given, labels, RATES, sample_weight=weight, tol=TOL, backend=backend)
    held = np.asarray(arrays.where_it_lies(given)).astype(np.float64)
    check(path, held, Y, RATES, tol=TOL)
    np.testing.assert_array_equal(path.predict(given), path.predict(arrays.where_it_lies(given)))
    assert path.score(given, labels).shape == (2,)


@pytest.mark.parametrize("container", ["torch", "torch, bfloat16", "jax", "array_api_strict", "pandas"])
def test_arrays_of_the_host_are_not_copied(container):
    module = pytest.importorskip(container.split(",")[0])
    given = MAKERS[container](module, X.astype(np.float32))
    assert np.shares_memory(arrays.where_it_lies(given), arrays.where_it_lies(given))


def test_a_big_endian_map_is_fitted_block_by_block(tmp_path):
    X.astype(">f4").tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", ">f4", "r", shape=X.shape)
    for backend in ON_HOST:
        check(fit_path(mapped, Y, RATES, tol=TOL, backend=backend), X.astype(np.float32), Y, RATES, tol=TOL)


@pytest.fixture
def device(monkeypatch):
    """Let tensors of the host pass for ones of a CUDA device: everything but the transfers is real."""
    torch = pytest.importorskip("torch")
    from papershell.kernels.logreg import on_torch, on_torch_cuda

    lies = arrays.where_it_lies
    monkeypatch.setattr(arrays, "where_it_lies", lambda a: a if isinstance(a, torch.Tensor) else lies(a))
    monkeypatch.setattr(arrays, "device", lambda a: "cuda:0" if isinstance(a, torch.Tensor) else "cpu")
    monkeypatch.setattr(on_torch, "Engine", lambda samples: on_torch_cuda.Engine(samples, device="cpu"))
    return torch


@pytest.mark.parametrize("kind", arrays.KEPT)
def test_tensors_of_a_device_are_fitted_there(device, kind):
    data = typed(kind)
    given = (
        device.from_numpy(data.view(np.int16)).view(device.bfloat16)
        if kind == "bfloat16"
        else device.from_numpy(data)
    )
    labels = device.from_numpy(Y)
    path = fit_path(given, labels, RATES, tol=TOL)
    assert path.backend == "torch"
    check(path, data.astype(np.float64), Y, RATES, tol=TOL)
    assert (path.score(given, labels) == path.score(data, Y)).all()


@pytest.mark.parametrize(
    "shape", [(200, 10), (20, 60)], ids=["far from the origin", "more features than rows"]
)
def test_coordinates_of_tensors_of_a_device(device, shape):
    few, labels = blobs(*shape)
    few = few + 1e4
    path = fit_path(device.from_numpy(few), labels, RATES, gap=1e-4)
    truth = fit_path(few, labels, RATES, gap=1e-8, backend="numpy")
    assert (path.loss * (1 - path.gap) <= truth.loss * (1 + 1e-8)).all() and (path.gap <= 1e-4).all()


@pytest.mark.parametrize("kind", ["uint8", "float16"])
def test_rows_that_stay_on_the_host_pass_through_the_device_in_blocks(device, kind, monkeypatch):
    from papershell.kernels.logreg import on_torch_cuda, streaming

    asked = []
    send = streaming.HostRows._send
    monkeypatch.setattr(on_torch_cuda, "is_large", lambda size_bytes, device: size_bytes > 1)
    monkeypatch.setattr(on_torch_cuda.CudaEngine, "converted_bytes", 1)  # the fewest rows a block
    monkeypatch.setattr(
        streaming.HostRows, "_send", lambda self, rows: asked.append(rows) or send(self, rows)
    )
    data, labels = np.concatenate([typed(kind)] * 4), np.tile(Y, 4)
    path = fit_path(data, labels, RATES, tol=1e-4, backend="torch")
    check(path, data.astype(np.float64), labels, RATES, tol=1e-4)
    blocks = {(rows.start, rows.stop) for rows in asked}
    assert len(blocks) > 2 and max(stop - start for start, stop in blocks) <= 256


@pytest.mark.parametrize("backend", ON_CPU)
def test_an_array_of_another_device_is_one_sentence(device, backend):
    with pytest.raises(ValueError, match=f"X lies on cuda:0, but back end '{backend}' computes on the CPU"):
        fit_path(device.from_numpy(X), Y, 1.0, backend=backend)


HUGE = np.lib.stride_tricks.as_strided(
    np.zeros(1, np.float32), (1 << 40, 1 << 20), (0, 0)
)  # 4 EiB, of one number
BAD = {
    "NaN in float16": (np.where(X > 2, np.nan, X).astype(np.float16), Y, "X holds NaN or infinity in"),
    "infinity in float16": (np.where(X > 2, np.inf, X).astype(np.float16), Y, "X holds NaN or infinity in"),
    "complex": (X.astype(complex), Y, "X has elements of type complex128; pass bytes or real numbers"),
    "strings": (X.astype(str), Y, "X has elements of type str"),
    "dates": (X.astype("M8[s]"), Y, "X has elements of type datetime64"),
    "X and y of different length": (HUGE, Y, r"X has \d+ samples but y has shape"),
    "labels in two columns": (X, np.stack([Y, Y], 1), "pass one label a sample"),
    "labels that are not integers": (X, Y + 0.5, "y must hold integer labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_features_are_one_sentence(case):
    data, labels, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        fit_path(data, labels, 1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["torch", "pandas", "polars"])
def test_bad_features_of_other_libraries_are_one_sentence(library):
    module = pytest.importorskip(library)
    if library == "torch":
        bad = {
            "complex64": module.zeros(4, 2, dtype=module.complex64),
            "bfloat16 NaN": module.full((200, 2), np.nan).bfloat16(),
        }
    else:
        bad = {"strings": module.DataFrame({"a": ["x"] * 200, "b": np.ones(200)})}
    for data in bad.values():
        with pytest.raises(ValueError, match=r"X (has elements of type|holds NaN)") as caught:
            fit_path(data, Y[: len(data)], 1.0)
        assert "\n" not in str(caught.value)


MEMORY = """
import json, sys
import numpy as np
from papershell.benchmarks.inputs import Peak
from papershell.kernels import fit_path
from papershell.kernels.logreg.cost import work_bytes

kind, rng = sys.argv[1], np.random.default_rng(0)
P, itemsize = 256, {"uint8": 1, "int8": 1, "float32": 4, "float64": 8}.get(kind, 2)
N = (128 << 20) // (P * itemsize)
if kind == "bfloat16":
    import ml_dtypes
    kind = ml_dtypes.bfloat16
X = np.empty((N, P), kind)
for first in range(0, N, 4096):
    X[first : first + 4096] = rng.integers(0, 100, X[first : first + 4096].shape)
if sys.argv[2] == "badly scaled":
    X[:, 0] *= 1000
y = (X[:, 1] > 50).astype(int)
fit_path(X[:3000], y[:3000], 1.0, scale=0.01, backend=sys.argv[3])
with Peak() as peak:
    fit_path(X, y, 1.0, scale=0.01, max_iter=4, backend=sys.argv[3])
print(json.dumps([peak.highest, X.nbytes, work_bytes(N, P, 2, 1, X.dtype)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is read from /proc")
@pytest.mark.parametrize(
    ("kind", "features", "backend"),
    [
        ("float16", "plain", "numba"), ("float32", "badly scaled", "numba"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("uint8", "plain", "torch"), ("int8", "plain", "numba"), ("bfloat16", "plain", "numba"),
                ("float64", "plain", "numpy"),
            )
        ),
    ],
)  # fmt: skip
def test_a_fit_takes_no_more_memory_than_a_tenth_of_its_input_and_the_stated_work_space(
    kind, features, backend
):
    if not is_available(backend) or (kind == "bfloat16" and not importlib.util.find_spec("ml_dtypes")):
        pytest.skip("a library is not installed")
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, kind, features, backend],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    taken, given, work = json.loads(done.stdout.splitlines()[-1])
    assert work < given, "a copy of X must not hide in the work space"
    assert taken <= 0.1 * given + work


LARGER_THAN_MEMORY = """
import resource, sys
import numpy as np
from papershell.kernels import fit_path

def data_bytes():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))

X = np.load("X.npy", mmap_mode="r")
y = np.arange(len(X)) % 2
fit_path(X[:50_000], y[:50_000], 1.0, backend="numba")
resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + X.nbytes // 4, -1))
try:
    np.empty(X.nbytes // 3, np.uint8)
except MemoryError:
    print("a third of X does not fit")
path = fit_path(X, y, 1.0, backend="numba", max_iter=3, tol=1e-6)
print(path.n_iter[0] > 0, path.score(X, y)[0] > 0.5)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts an array's memory on Linux only")
def test_a_file_of_halves_four_times_the_memory_is_fitted_and_judged(tmp_path):
    rows, features = 600_000, 500
    head = np.lib.format.header_data_from_array_1_0(np.empty((0, features), np.float16)) | {
        "shape": (rows, features)
    }
    with open(tmp_path / "X.npy", "wb") as file:  # the rows behind the first are a hole in the file: zeros
        np.lib.format.write_array_header_1_0(file, head)
        start = file.tell()
        some = np.random.default_rng(0).normal(size=(5_000, features))
        some[:, 0] += np.arange(5_000) % 2 * 3
        file.write(some.astype(np.float16).tobytes())
        file.truncate(start + rows * features * 2)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", LARGER_THAN_MEMORY],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout.split("\n")[:2], done.stderr) == (["a third of X does not fit", "True True"], "")
