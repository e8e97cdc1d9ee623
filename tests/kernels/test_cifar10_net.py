"""The network's SGD steps against PyTorch's own autograd and optimizer, in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from papershell.kernels import normalize  # noqa: E402
from papershell.kernels.backends import BackendError  # noqa: E402
from papershell.kernels.cifar10_net import N_PARAMETERS, named, sgd  # noqa: E402

BACKENDS = ("numba", "torch")
RATES = {"learning_rate": 0.01, "momentum": 0.9}
LEVELS = normalize(np.arange(256, dtype=np.uint8), mean=0.5, std=0.5)
REDUCTION = 784  # the longest sum of a step: a weight's gradient over a plane
EPS = float(np.finfo(np.float32).eps)
N_IMAGES = 60


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (N_IMAGES, 3, 32, 32), dtype=np.uint8)
    images[7] = 200  # a plane of one colour: every maximum is a tie
    return images, rng.integers(0, 10, N_IMAGES)


def initial(n_networks: int) -> np.ndarray:
    """Weights of the size that PyTorch starts from."""
    return np.random.default_rng(5).uniform(-0.1, 0.1, (n_networks, N_PARAMETERS)).astype(np.float32)


def orders(n_networks: int, steps: int, batch: int) -> np.ndarray:
    return np.random.default_rng(8).integers(0, N_IMAGES, (n_networks, steps, batch))


def start(params, data, backend, levels=LEVELS, **changes):
    return sgd(params, np.zeros_like(params), *data, levels, backend=backend, **RATES | changes)


class Reference(torch.nn.Module):
    """The network as anyone would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(3, 6, 5), torch.nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = (
            torch.nn.Linear(*shape) for shape in ((400, 120), (120, 84), (84, 10))
        )

    def forward(self, x):
        pool, relu = torch.nn.functional.max_pool2d, torch.nn.functional.relu
        x = pool(relu(self.conv2(pool(relu(self.conv1(x)), 2))), 2).flatten(1)
        return self.fc3(relu(self.fc2(relu(self.fc1(x)))))


def reference(params: np.ndarray, data, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and losses of one network after the steps of ``order`` (T, B), in float64."""
    net = Reference().double()
    net.load_state_dict({name: torch.tensor(value).double() for name, value in named(params).items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=RATES["learning_rate"], momentum=RATES["momentum"])
    losses = []
    for rows in order:
        x, y = torch.tensor(LEVELS[data[0][rows]]).double(), torch.tensor(data[1][rows])
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.cat([p.detach().flatten() for p in net.parameters()]).numpy(), np.array(losses)


@pytest.mark.parametrize("batch", [1, 3, 4, 17])
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_those_of_torch_sgd(data, backend, batch):
    params, order = initial(2), orders(2, 12, batch)
    networks = start(params, data, backend)
    losses = networks.run(order)
    found, velocity = networks.state()
    for s in range(2):
        wanted, wanted_losses = reference(params[s], data, order[s])
        moved = np.abs(wanted - params[s]).max()
        assert np.abs(found[s] - wanted).max() <= REDUCTION * EPS * moved
        assert np.abs(losses[s] - wanted_losses).max() <= REDUCTION * EPS * wanted_losses.max()
    assert velocity.any()


def test_both_back_ends_agree_on_pixels_between_zero_and_one(data):
    levels = normalize(np.arange(256, dtype=np.uint8))
    params, order = initial(1), orders(1, 5, 4)
    losses = [start(params, data, backend, levels).run(order) for backend in BACKENDS]
    np.testing.assert_allclose(losses[0], losses[1], rtol=REDUCTION * EPS)


def test_a_network_does_not_depend_on_its_companions_nor_on_how_steps_are_called(data):
    params, order = initial(3), orders(3, 9, 4)
    together = start(params, data, "numba")
    losses = together.run(order)
    for s in range(3):
        alone = start(params[s : s + 1], data, "numba")
        pieces = [alone.run(order[s : s + 1, part]) for part in (slice(0, 2), slice(2, 3), slice(3, None))]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1)[0], losses[s])
        np.testing.assert_array_equal(alone.state()[0][0], together.state()[0][s])


def test_velocity_goes_on_where_it_was(data):
    params, order = initial(1), orders(1, 8, 4)
    whole = start(params, data, "numba")
    whole.run(order)
    first = start(params, data, "numba")
    first.run(order[:, :5])
    second = sgd(*first.state(), *data, LEVELS, backend="numba", **RATES)
    second.run(order[:, 5:])
    for ours, theirs in zip(second.state(), whole.state(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_that_diverges_shows_it_and_harms_no_other(data, backend):
    params, order = initial(2), orders(2, 30, 4)
    alone = start(params[1:], data, backend)
    wanted = alone.run(order[1:])
    params[0] *= 1e8
    losses = start(params, data, backend).run(order)
    assert not np.isfinite(losses[0]).all()
    np.testing.assert_allclose(losses[1], wanted[0], rtol=REDUCTION * EPS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["conv1.weight", "conv2.bias", "fc1.weight", "fc3.bias"])
def test_no_layer_hides_a_weight_that_is_not_a_number(data, backend, name):
    params = initial(1)
    named(params[0])[name].flat[0] = np.nan
    assert np.isnan(start(params, data, backend).run(orders(1, 1, 4))[0, 0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_averaged_gradients_of_two_halves_are_the_gradient_of_the_whole(data, backend):
    params, order = initial(1), orders(1, 1, 8)
    halves = []

    def keep(gradients):
        halves.append(np.asarray(gradients).copy())

    for half in (order[..., :4], order[..., 4:]):
        start(params, data, backend, reduce=keep).run(half)

    def put_mean(gradients):
        gradients[:] = (torch.tensor if backend == "torch" else np.array)((halves[0] + halves[1]) / 2)

    shared, whole = start(params, data, backend, reduce=put_mean), start(params, data, backend)
    shared.run(order[..., :4])
    whole.run(order)
    moved = np.abs(whole.state()[0] - params).max()
    assert np.abs(shared.state()[0] - whole.state()[0]).max() <= REDUCTION * EPS * moved


def test_a_full_gpu_is_one_sentence_that_says_how_much_was_needed(data):
    report = (
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which 7.12 GiB "
        "is free. Of the allocated memory 512.00 MiB is allocated by PyTorch."
    )

    def fill(_):
        raise torch.OutOfMemoryError(report)

    with pytest.raises(
        BackendError, match=r"Tried to allocate 20\.00 GiB.*7\.12 GiB is free.*fewer networks"
    ) as failure:
        start(initial(1), data, "torch", reduce=fill).run(orders(1, 1, 4))
    assert "\n" not in str(failure.value)


def wrong(data, **changes):
    given = dict(
        zip(
            ("params", "velocity", "images", "labels", "levels"),
            (initial(1), initial(1), *data, LEVELS),
            strict=True,
        )
    )
    return sgd(**given | changes, **RATES, backend="numba")


MISFITS = {
    "params must be float32 of shape": {"params": np.zeros((1, 5), np.float32)},
    "velocity must be float32": {"velocity": np.zeros((1, N_PARAMETERS))},
    "images must be uint8": {"images": np.zeros((N_IMAGES, 3, 32, 31), np.uint8)},
    "labels must be 60 integers": {"labels": np.zeros(59, np.int64)},
    "labels must be 0 to 9, found 0 to 10": {"labels": np.arange(N_IMAGES) % 11},
    "levels must be float32": {"levels": np.zeros(255, np.float32)},
}


@pytest.mark.parametrize("message", MISFITS)
def test_what_does_not_fit_is_refused_before_a_loop_reads_it(data, message):
    with pytest.raises(ValueError, match=message):
        wrong(data, **MISFITS[message])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_order_that_leaves_the_data_is_refused(data, backend):
    networks = start(initial(1), data, backend)
    for order in (np.full((1, 1, 4), N_IMAGES), np.full((1, 1, 4), -1)):
        with pytest.raises(ValueError, match="order must index 60 images"):
            networks.run(order)
    for order in (np.zeros((2, 1, 4), np.int64), np.zeros((1, 4), np.int64), np.zeros((1, 1, 4), np.int32)):
        with pytest.raises(ValueError, match="order must be int64"):
            networks.run(order)


def test_a_back_end_without_it_says_so(data):
    with pytest.raises(BackendError, match="'numpy' has no cifar10_net"):
        start(initial(1), data, "numpy")


def test_no_step_is_no_change(data):
    networks = start(initial(1), data, "numba")
    assert networks.run(np.zeros((1, 0, 4), np.int64)).shape == (1, 0)
    np.testing.assert_array_equal(networks.state()[0], initial(1))
