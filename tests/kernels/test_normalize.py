"""Normalization against NumPy's formula, bit for bit; on every back end that is present."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from papershell.kernels import BackendError, normalize
from papershell.kernels.backends import available_backends, is_available

ON_HOST = ["numpy", "numba", "torch"]
ON_DEVICE = ["torch", "cupy", "numba-cuda"]
DTYPES = ["float32", "float16", "float64"]
CONSTANTS = [
    (1 / 255, 0.0, 1.0),
    (1.0, 0.0, 255.0),
    (1 / 255, 0.1307, 0.3081),
    (1 / 255, 0.5, 0.5),
    (2 / 255, 1.0, 1.0),
    (-1.0, 127.5, 73.9),
    (1.0, 0.0, 1.0),
    (1.0, 3.0, 1.0),
]
ALL_BYTES = np.arange(256, dtype=np.uint8)


@pytest.fixture(autouse=True)
def present(request: pytest.FixtureRequest) -> None:
    """Skip a case on the host whose back end is absent, with the reason."""
    if request.node.get_closest_marker("gpu"):
        return
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    name = parameters.get("backend", "numpy")
    if not is_available(name):
        pytest.skip(available_backends()[name])


def formula(images, scale, mean, std, dtype: str) -> np.ndarray:
    """The contract, written down a second time."""
    x, scale, mean, std = (np.asarray(value).astype(dtype) for value in (images, scale, mean, std))
    return ((x * scale) - mean) / std


def same_bits(result, expected: np.ndarray) -> bool:
    """Whether type, shape and every bit agree."""
    for to_host in ("get", "copy_to_host", "numpy"):
        if hasattr(result, to_host):
            result = getattr(result.cpu() if to_host == "numpy" else result, to_host)()
            break
    return (result.dtype, result.shape) == (expected.dtype, expected.shape) and (
        result.tobytes() == expected.tobytes()
    )


@pytest.mark.parametrize("constants", CONSTANTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ON_HOST)
def test_every_byte(backend: str, dtype: str, constants: tuple[float, float, float]) -> None:
    scale, mean, std = constants
    result = normalize(ALL_BYTES, scale=scale, mean=mean, std=std, dtype=dtype, backend=backend)
    assert same_bits(result, formula(ALL_BYTES, *constants, dtype))


@pytest.mark.gpu
@pytest.mark.parametrize("constants", CONSTANTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ON_DEVICE)
def test_every_byte_on_the_device(cuda, backend: str, dtype: str, constants) -> None:
    scale, mean, std = constants
    result = normalize(ALL_BYTES, scale=scale, mean=mean, std=std, dtype=dtype, backend=backend)
    assert same_bits(result, formula(ALL_BYTES, *constants, dtype))


@pytest.mark.parametrize("constants", CONSTANTS)
def test_every_byte_in_bfloat16(constants: tuple[float, float, float]) -> None:
    torch = pytest.importorskip("torch")
    scale, mean, std = (torch.tensor(value, dtype=torch.float32).bfloat16() for value in constants)
    result = normalize(
        torch.from_numpy(ALL_BYTES), scale=constants[0], mean=constants[1], std=constants[2], dtype="bfloat16"
    )
    step = (torch.from_numpy(ALL_BYTES).float() * scale.float()).bfloat16()
    step = (step.float() - mean.float()).bfloat16()
    assert torch.equal(result, (step.float() / std.float()).bfloat16())


@pytest.mark.parametrize("size", [1, 31, 64, (1 << 20) - 1, (1 << 20) + 77, (1 << 22) - 1, 9_000_011])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_and_offsets_with_out(size: int, dtype: str) -> None:
    """Odd sizes and unaligned memory, on both sides of every threshold; nothing outside is written."""
    images = np.resize(np.random.default_rng(1).permutation(ALL_BYTES), size)
    memory = np.full(size + 5, 7, dtype)
    out = memory[3:-2]
    result = normalize(images, mean=0.1307, std=0.3081, dtype=dtype, out=out, backend="numba")
    assert result is out
    assert same_bits(out, formula(images, 1 / 255, 0.1307, 0.3081, dtype))
    assert set(memory[[0, 1, 2, -2, -1]]) == {7}


@pytest.mark.parametrize("layout", ["rows", "columns", "every second"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ON_HOST)
def test_many_blocks_of_any_layout(backend: str, dtype: str, layout: str) -> None:
    images = np.random.default_rng(3).integers(0, 256, (301, 1402), np.uint8)
    images = {"rows": images, "columns": images.T, "every second": images[:, ::2]}[layout]
    given = images
    if backend == "torch":
        given = pytest.importorskip("torch").from_numpy(images)
    mean = np.full((1, 1), 0.5)
    result = normalize(given, mean=mean, dtype=dtype, backend=backend)
    assert same_bits(result, formula(images, 1 / 255, mean, 1.0, dtype))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_an_out_that_overlaps_large_images(backend: str) -> None:
    memory = np.random.default_rng(4).uniform(0, 255, 300_001).astype(np.float32)
    expected = formula(memory[:-1].copy(), 1 / 255, 0.0, 1.0, "float32")
    normalize(memory[:-1], out=memory[1:], backend=backend)
    assert same_bits(memory[1:], expected)


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "negated"])
def test_tensors_that_numpy_does_not_have(kind: str) -> None:
    torch = pytest.importorskip("torch")
    numbers = torch.full((1 << 20,), 2.0)
    images = torch._neg_view(numbers) if kind == "negated" else numbers.to(getattr(torch, kind))
    expected = -2.0 if kind == "negated" else 2.0
    assert torch.equal(normalize(images, scale=1.0), torch.full_like(numbers, expected))


def test_a_tensor_with_a_gradient_keeps_it() -> None:
    torch = pytest.importorskip("torch")
    images = torch.linspace(0.0, 255.0, 1 << 21, requires_grad=True)
    normalize(images).sum().backward()
    assert torch.equal(images.grad, torch.full_like(images, np.float32(1 / 255)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ON_HOST)
def test_constants_broadcast_as_in_numpy(backend: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (5, 3, 7, 4), dtype=np.uint8)
    for shape in [(), (1,), (4,), (7, 1), (3, 1, 1), (5, 1, 1, 1), (7, 4), (3, 1, 4)]:
        mean, std = rng.random(shape), rng.random(shape) + 0.1
        result = normalize(images, mean=mean, std=std, dtype=dtype, backend=backend)
        assert same_bits(result, formula(images, 1 / 255, mean, std, dtype)), shape


def test_channels_of_many_images_are_shared_among_threads() -> None:
    rng = np.random.default_rng(4)
    for shape, axis in [((401, 3, 32, 32), 1), ((401, 32, 32, 3), 3)]:
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        mean = rng.random([3 if each == axis else 1 for each in range(4)])
        assert same_bits(normalize(images, mean=mean), formula(images, 1 / 255, mean, 1.0, "float32"))


NUMBERS = st.sampled_from(
    ["u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", ">i2", ">f4", "?"]
).flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and NaN, as in NumPy's own formula
@given(images=NUMBERS, dtype=st.sampled_from(DTYPES))
@settings(max_examples=100)
def test_any_input_type(images: np.ndarray, dtype: str) -> None:
    expected = formula(images, 1 / 255, 0.25, 0.5, dtype)
    for backend in ("numpy", "numba"):
        result = normalize(images, mean=0.25, std=0.5, dtype=dtype, backend=backend)
        assert result.dtype == expected.dtype
        assert np.array_equal(result, expected, equal_nan=True)


@pytest.mark.parametrize("constants", [(1.0, 0.0, 1.0), (1.0, -0.0, 1.0), (-1.0, 0.0, -1.0), (1.0, 0.0, 2.0)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ON_HOST)
def test_a_step_that_is_left_out_changes_no_bit(backend: str, dtype: str, constants) -> None:
    scale, mean, std = constants
    images = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 3e-5, 200.0], np.float32)
    result = normalize(images, scale=scale, mean=mean, std=std, dtype=dtype, backend=backend)
    assert same_bits(result, formula(images, *constants, dtype))


@pytest.mark.parametrize("backend", ON_HOST)
def test_memory_order_does_not_matter(backend: str) -> None:
    images = np.random.default_rng(5).integers(0, 256, (6, 8, 10), dtype=np.uint8)
    frozen = images.copy()
    frozen.flags.writeable = False
    for view in (images[::2, ::-1, 1:], images.transpose(2, 0, 1), np.asfortranarray(images), frozen):
        assert same_bits(normalize(view, backend=backend), formula(view, 1 / 255, 0, 1, "float32"))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_out_may_be_strided_or_overlap(backend: str) -> None:
    images = np.random.default_rng(6).random((40, 50), dtype=np.float32)
    expected = formula(images, 1 / 255, 0.5, 2, "float32")
    strided = np.zeros((80, 100), np.float32)[::2, ::2]
    assert normalize(images, mean=0.5, std=2, out=strided, backend=backend) is strided
    assert same_bits(strided, expected)
    assert same_bits(normalize(images, mean=0.5, std=2, out=images, backend=backend), expected)


@pytest.mark.parametrize("backend", ON_HOST)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)])
def test_no_pixels_at_all(backend: str, dtype: str, shape: tuple[int, ...]) -> None:
    result = normalize(np.zeros(shape, np.uint8), mean=np.ones(shape[-1:]), dtype=dtype, backend=backend)
    assert same_bits(result, np.zeros(shape, dtype))


def test_a_tensor_stays_a_tensor_and_takes_out() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(ALL_BYTES)
    out = torch.empty(256, dtype=torch.float16)
    assert normalize(tensor, dtype=torch.float16, out=out) is out
    assert same_bits(out, formula(ALL_BYTES, 1 / 255, 0, 1, "float16"))


@pytest.mark.parametrize("backend", ON_HOST)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": 0}, "std must not be zero"),
        ({"std": [1.0, 0.0, 1.0]}, "std must not be zero"),
        ({"std": 1e-30, "dtype": "float16"}, "std must not be zero"),
        ({"mean": [1.0, 2.0]}, r"mean of shape \(2,\) does not broadcast to images of shape \(4, 3\)"),
        ({"scale": np.ones((2, 4, 3))}, r"scale of shape \(2, 4, 3\) does not broadcast"),
        ({"dtype": "int32"}, "normalizes to float32, float16"),
    ],
)
def test_bad_arguments_are_one_sentence(backend: str, arguments: dict, message: str) -> None:
    kind = BackendError if arguments.get("dtype") == "int32" else ValueError
    with pytest.raises(kind, match=message):
        normalize(np.zeros((4, 3), np.uint8), **arguments, backend=backend)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("out", [np.empty((3, 4), "float32"), np.empty((4, 3), "float64")])
def test_a_wrong_out_is_refused(backend: str, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"out must have shape \(4, 3\) and dtype float32, found"):
        normalize(np.zeros((4, 3), np.uint8), out=out, backend=backend)


@pytest.mark.parametrize("backend", ON_HOST)
def test_an_out_that_cannot_take_the_result_is_refused(backend: str) -> None:
    with pytest.raises(ValueError, match=r"out must be a (numpy\.ndarray|torch\.Tensor), found list"):
        normalize(np.zeros(3, np.uint8), out=[0, 0, 0], backend=backend)
    if backend != "torch":
        frozen = np.zeros(3, np.float32)
        frozen.flags.writeable = False
        with pytest.raises(ValueError, match="out must be writable"):
            normalize(np.zeros(3, np.uint8), out=frozen, backend=backend)


@pytest.mark.parametrize("images", [np.zeros(3, complex), np.array(["a"]), np.array([None])])
def test_images_that_are_no_numbers_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images must be an array of real numbers"):
        normalize(images)


def test_several_threads_at_once() -> None:
    """Numba's own threading layers abort the process here."""
    images = np.resize(ALL_BYTES, 3 << 20)
    expected = formula(images, 1 / 255, 0, 1, "float32")
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(same_bits(normalize(images), expected)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_after_a_fork() -> None:
    script = """
        import os
        import numpy as np
        from papershell.kernels import normalize
        images = np.resize(np.arange(256, dtype=np.uint8), 3 << 20)
        before = normalize(images)
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(normalize(images), before) else 1)
        print(os.waitpid(child, 0)[1])
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "0\n", run.stderr


def test_small_arrays_need_no_compiler() -> None:
    script = """
        import sys
        import numpy as np
        from papershell.kernels import normalize
        normalize(np.zeros((100, 784), np.uint8))
        print("numba" in sys.modules)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"
