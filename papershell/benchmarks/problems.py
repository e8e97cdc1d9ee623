"""Problems for the solver suites: MNIST and CIFAR-10 as they are, scikit-learn's small sets, generators with seeds.

A generator takes the share of the rows that it shall make: a smoke run takes few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from papershell.kernels import read_idx
from papershell.kernels.files import replacing
from papershell.trainers.datasets import Dataset, cache_folder, data_folder, find_idx_files, read_cifar10

PIXEL = 1 / 255
SMALL = ("iris", "wine", "breast_cancer", "digits")
PATCH, FILTERS, POOLS = (
    6,
    400,
    2,
)  # Coates and Ng's patches of 6 x 6 pixels; 400 filters x 2 x 2 pools: 1,600 features
PATCHES = 100_000  # from which the whitening is taken
THRESHOLD = 0.25  # of the activation, theirs for whitened random patches
WHITENING_FLOOR = 0.1  # added to the variances: contrasts below are noise
BLOCK_IMAGES = 100  # whose patches are laid out at once: 32 MB


@dataclass(frozen=True, eq=False)
class Problem:
    """A classification problem.

    Attributes
    ----------
    name : for groups of benchmarks; tells the shape.
    X : (N, P) uint8, float32 or float64.
    y : (N,) int64, classes 0 to K - 1, each present.
    scale : factor of X that everybody's features carry.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    scale: float = 1.0

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.y.max()) + 1

    def row_blocks(self, rows: int = 4096) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield scaled float64 features and labels of some rows at a time."""
        for first in range(0, len(self.y), rows):
            block = slice(first, first + rows)
            yield self.X[block].astype(np.float64) * self.scale, self.y[block]

    def as_floats(self) -> np.ndarray:
        """Return the scaled features (N, P) as a peer's user has them: bytes in float64, floats as they are."""
        return self.X * self.scale if self.X.dtype == np.uint8 else self.X


def find_images() -> Path:
    """Return the path of MNIST's training images.

    Raises
    ------
    papershell.trainers.datasets.DataError
        They are not below the folder that PAPERSHELL_DATA names.
    """
    return find_idx_files(_folder("mnist"))["train-images"]


def read_cifar10_images() -> Dataset:
    """Return CIFAR-10; DataError if it is not below the folder that PAPERSHELL_DATA names."""
    return read_cifar10(_folder("cifar10"), name="cifar10")


def _folder(name: str) -> Path:
    """A data set's own folder, or else the whole data folder; a benchmark downloads no data."""
    own = data_folder() / name
    return own if own.is_dir() else data_folder()


@cache
def mnist(share: float = 1.0) -> Problem:
    """MNIST's training images as bytes, 60,000 x 784, 10 classes."""
    images = find_images()
    X = read_idx(images)
    y = read_idx(images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1")))
    N = round(share * len(y))
    return Problem(f"MNIST, {N:,} images", X.reshape(len(y), -1)[:N], y[:N].astype(np.int64), PIXEL)


@cache
def cifar10(share: float = 1.0) -> Problem:
    """CIFAR-10's training images as bytes, 50,000 x 3,072, 10 classes."""
    data = read_cifar10_images()
    N = round(share * len(data.y_train))
    return Problem(
        f"CIFAR-10 pixels, {N:,} images", data.X_train[:N], data.y_train[:N].astype(np.int64), PIXEL
    )


@cache
def class_centres(
    N: int, P: int, K: int, separation: float, name: str = "", share: float = 1.0, seed: int = 7
) -> Problem:
    """Float32 features around class centres, with a decaying spectrum, as embeddings have.

    ``separation`` is the distance of the centres in units of the spread within a class, in each coordinate.
    """
    N = max(round(share * N), 2 * K)
    rng = np.random.default_rng(seed)
    spectrum = (1 + np.arange(P, dtype=np.float32)) ** -0.6
    y = np.concatenate([np.arange(K), rng.integers(0, K, N - K)])
    centres = rng.standard_normal((K, P), dtype=np.float32) * spectrum * np.float32(separation)
    X = rng.standard_normal((N, P), dtype=np.float32)
    X *= spectrum
    X += centres[y]
    X += rng.standard_normal(P, dtype=np.float32)
    return Problem(_shape(X, K) + (f", {name}" if name else ""), X, y)


@cache
def one_in(N: int, P: int, every: int, share: float = 1.0, seed: int = 8) -> Problem:
    """Float32 features of two classes, one positive in ``every``; positives lie one spread away."""
    N = max(round(share * N), 2 * every)
    rng = np.random.default_rng(seed)
    y = np.zeros(N, np.int64)
    y[rng.permutation(N)[: N // every]] = 1
    direction = rng.standard_normal(P, dtype=np.float32)
    X = rng.standard_normal((N, P), dtype=np.float32)
    X[y == 1] += direction / np.linalg.norm(direction)
    return Problem(_shape(X, 2) + f", one positive in {every:,}", X, y)


@cache
def logistic(N: int, P: int, share: float = 1.0, seed: int = 9) -> Problem:
    """Float64 features of two classes, drawn from a logistic model."""
    N = round(share * N)
    rng = np.random.default_rng(seed)
    X, w = rng.standard_normal((N, P)), rng.standard_normal(P)
    y = (rng.random(N) < 1 / (1 + np.exp(-X @ w / 2 - 0.5))).astype(np.int64)
    return Problem(_shape(X, 2), X, y)


@cache
def small(name: str) -> Problem:
    """One of scikit-learn's sets (`SMALL`) as it comes, float64, not scaled."""
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return Problem(name.replace("_", " "), X, y.astype(np.int64))


@cache
def cifar10_features(share: float = 1.0) -> Problem:
    """Random features of CIFAR-10, 50,000 x 1,600 float32, kept in the user's cache folder once they are made.

    Coates and Ng, "The importance of encoding versus training with sparse coding and vector quantization", ICML
    2011, section 3 (random patches) and 4.1: patches of 6 x 6 pixels, contrast normalized and ZCA-whitened, against
    400 of them drawn at random, max(0, z - 0.25), summed over each quadrant; then standardized.
    """
    pixels = cifar10(share)
    digest = hashlib.sha256(pixels.X.tobytes()).hexdigest()[:12]
    path = cache_folder() / "benchmarks" / f"cifar10-features-{digest}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        X = random_features(pixels.X.reshape(-1, 3, 32, 32))
        with replacing(path) as file:
            np.save(file, X)
    X = np.load(path, allow_pickle=False)
    return Problem(f"CIFAR-10 random features, {_shape(X, pixels.n_classes)}", X, pixels.y)


def random_features(images: np.ndarray, seed: int = 10) -> np.ndarray:
    """Return the standardized features (N, 1600) float32 of images (N, 3, 32, 32) uint8."""
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(images))[: PATCHES // 100]
    sample = rng.permutation(_patches(images[drawn]).reshape(-1, 3 * PATCH**2))[:PATCHES]
    whitening, mean = _whitening(sample)
    filters = (sample[:FILTERS] - mean) @ whitening
    filters /= np.linalg.norm(filters, axis=1, keepdims=True)
    blocks = range(0, len(images), BLOCK_IMAGES)
    X = np.concatenate([_encode(images[i : i + BLOCK_IMAGES], whitening @ filters.T, mean) for i in blocks])
    X -= X.mean(axis=0)
    X /= np.maximum(X.std(axis=0), 1e-6)
    return X


def _patches(images: np.ndarray) -> np.ndarray:
    """All patches (N, 27, 27, 108) float32 of images (N, 3, 32, 32), each of mean 0 and variance about 1."""
    windows: np.ndarray = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))  # type: ignore[call-overload]
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(*windows.shape[:1], *windows.shape[2:4], -1)
    patches = patches.astype(np.float32)
    patches -= patches.mean(axis=-1, keepdims=True)
    patches /= np.sqrt(patches.var(axis=-1, keepdims=True) + 10)  # 10: theirs, against noise in flat patches
    return patches


def _whitening(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ZCA of patches (M, 108): the matrix, and the mean that is subtracted first."""
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(sample.T))
    matrix = (vectors / np.sqrt(np.maximum(values, 0) + WHITENING_FLOOR)) @ vectors.T
    return matrix.astype(np.float32), mean


def _encode(images: np.ndarray, weights: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Activations of images against filters (108, 400), summed over each quadrant: (N, 1600)."""
    Z = (_patches(images) - mean) @ weights
    np.maximum(Z - np.float32(THRESHOLD), 0, out=Z)
    half = -(-Z.shape[1] // POOLS)
    pools = [Z[:, i : i + half, j : j + half].sum(axis=(1, 2)) for i in (0, half) for j in (0, half)]
    return np.concatenate(pools, axis=1)


def _shape(X: np.ndarray, K: int) -> str:
    return f"{len(X):,} x {X.shape[1]:,} {X.dtype}, {K:,} classes"
