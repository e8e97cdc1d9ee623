"""Figures: accuracy against regularization rate, accuracy and loss by epoch, sample images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from papershell.kernels.files import replacing
from papershell.trainers import SEED

SAMPLE_COLUMNS, SAMPLE_ROWS = 10, 3


def draw_accuracy(path: Path, rates: np.ndarray, accuracy: np.ndarray, best: int, title: str) -> None:
    """Draw test accuracy against regularization rate into the file ``path``; its suffix decides the format.

    Parameters
    ----------
    path : written atomically; ``.png`` and ``.pdf`` are known formats among others.
    rates : (R,) regularization rates, positive; the axis is logarithmic.
    accuracy : (R,) test accuracy of each, 0 to 1.
    best : index of the rate to mark.
    title : the line above.
    """
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    order = np.argsort(rates)
    axes.semilogx(np.take(rates, order), np.take(accuracy, order), "o-", color="#4269d0")
    axes.semilogx(rates[best], accuracy[best], "o", markersize=12, markerfacecolor="none", color="#ff725c")
    label = f"{accuracy[best]:.4f} at rate {rates[best]:.4g}"
    axes.annotate(label, (rates[best], accuracy[best]), (0, 10), textcoords="offset points", ha="center")
    axes.margins(y=0.15)
    axes.set(title=title, xlabel="regularization rate (1 / C)", ylabel="test accuracy")
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_history(path: Path, loss: np.ndarray, accuracy: np.ndarray) -> None:
    """Draw accuracy and loss of each epoch, (E,) both, into the file ``path``; its suffix decides the format."""
    figure = _figure(6, 3)
    axes = figure.add_subplot()
    epochs = np.arange(1, len(loss) + 1)
    axes.plot(epochs, accuracy, "o-", color="#4269d0", label="accuracy")
    axes.plot(epochs, loss, "s--", color="#ff725c", label="loss")
    axes.set(title=f"Accuracy vs Loss ({len(loss)} epochs)", xlabel="epoch")
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_samples(path: Path, images: np.ndarray, labels: np.ndarray, seed: int = SEED) -> None:
    """Draw 30 random images, each with its label above it, into the file ``path``; its suffix decides the format.

    Parameters
    ----------
    path : written atomically; ``.png`` and ``.pdf`` are known formats among others.
    images : (N, height, width) or (N, height, width, 3) uint8; all are shown if N < 30.
    labels : (N,) written above the images.
    seed : of the random choice.
    """
    count = min(SAMPLE_COLUMNS * SAMPLE_ROWS, len(images))
    chosen = np.random.default_rng(seed).choice(len(images), count, replace=False)
    height, width = images.shape[1:3]
    figure = _figure(SAMPLE_COLUMNS * 0.8, SAMPLE_ROWS * 1.1 * height / width)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: thirty of them take a second to draw
    axes.set(xlim=(0, SAMPLE_COLUMNS * 1.1), ylim=(SAMPLE_ROWS * 1.35, 0), aspect=height / width)
    axes.axis("off")
    for place, index in enumerate(chosen):
        row, column = divmod(place, SAMPLE_COLUMNS)
        left, top = 0.05 + column * 1.1, 0.3 + row * 1.35
        axes.imshow(images[index], cmap="gray_r", extent=(left, left + 1, top + 1, top), aspect="auto")
        axes.text(left + 0.5, top - 0.06, str(labels[index]), ha="center", va="bottom")
    _save(figure, path)


def _figure(width_inches: float, height_inches: float) -> Any:
    """A figure without pyplot: no window system, no global state."""
    from matplotlib.figure import Figure

    return Figure((width_inches, height_inches), layout=None)


def _save(figure: Any, path: Path) -> None:
    with replacing(path, parents=True) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=110, bbox_inches="tight")
