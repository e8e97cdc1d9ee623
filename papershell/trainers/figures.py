"""Figures: accuracy against regularization rate, accuracy and loss by epoch, images, a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from papershell.kernels.files import replacing
from papershell.trainers import SEED

SAMPLE_COLUMNS, SAMPLE_ROWS = 10, 3
COLORS, MARK = ("#4269d0", "#9c6b4e"), "#ff725c"
MOST_WRITTEN = 20  # classes up to which a confusion matrix shows its numbers
MOST_NAMED = 50  # classes up to which it names them


def draw_accuracy(
    path: Path, rates: np.ndarray, accuracy: Mapping[str, np.ndarray], best: int, title: str
) -> None:
    """Draw accuracy against regularization rate into the file ``path``; its suffix decides the format.

    Parameters
    ----------
    path : written atomically; ``.png`` and ``.pdf`` are known formats among others.
    rates : (R,) regularization rates, positive; the axis is logarithmic.
    accuracy : by the name of a part, (R,) the accuracy of each rate on it, 0 to 1; the first chose the best rate.
    best : index of the rate to mark.
    title : the line above.
    """
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    order = np.argsort(rates)
    for (part, values), style, color in zip(accuracy.items(), ("o-", "s--"), COLORS, strict=False):
        axes.semilogx(np.take(rates, order), np.take(values, order), style, color=color, label=part)
    chosen = next(iter(accuracy.values()))[best]
    axes.semilogx(rates[best], chosen, "o", markersize=12, markerfacecolor="none", color=MARK)
    label = f"{chosen:.4f} at rate {rates[best]:.4g}"
    axes.annotate(label, (rates[best], chosen), (0, -22), textcoords="offset points", ha="center")
    axes.legend()
    axes.margins(y=0.15)
    axes.set(title=title, xlabel="regularization rate (1 / C)", ylabel="accuracy")
    axes.grid(alpha=0.3)
    _save(figure, path)


def draw_history(path: Path, loss: np.ndarray, accuracy: np.ndarray) -> None:
    """Draw accuracy and loss of each epoch, (E,) both, into the file ``path``; its suffix decides the format."""
    figure = _figure(6, 3)
    axes = figure.add_subplot()
    epochs = np.arange(1, len(loss) + 1)
    axes.plot(epochs, accuracy, "o-", color=COLORS[0], label="accuracy")
    axes.plot(epochs, loss, "s--", color=MARK, label="loss")
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
    draw_captioned(
        path, images[chosen], [str(label) for label in labels[chosen]], (SAMPLE_ROWS, SAMPLE_COLUMNS)
    )


def draw_captioned(path: Path, images: np.ndarray, captions: Sequence[str], shape: tuple[int, int]) -> None:
    """Draw images with a caption above each into the file ``path``; its suffix decides the format.

    Parameters
    ----------
    path : written atomically.
    images : (n, height, width) or (n, height, width, 3) uint8.
    captions : (n,)
    shape : rows and columns, at least n places.
    """
    rows, columns = shape
    height, width = images.shape[1:3]
    lines = 1 + max((caption.count("\n") for caption in captions), default=0)
    step = 1.05 + 0.3 * lines
    figure = _figure(
        columns * 0.8 * (1 + (lines > 1)), rows * 0.8 * step * (1 + (lines > 1)) * height / width
    )
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: thirty of them take a second to draw
    axes.set(xlim=(0, columns * 1.1), ylim=(rows * step, 0), aspect=height / width)
    axes.axis("off")
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = 0.05 + column * 1.1, step - 1.05 + row * step
        axes.imshow(
            image, cmap="gray_r", vmin=0, vmax=255, extent=(left, left + 1, top + 1, top), aspect="auto"
        )
        axes.text(left + 0.5, top - 0.06, caption, ha="center", va="bottom")
    _save(figure, path)


def draw_confusion(path: Path, confusion: np.ndarray, classes: np.ndarray, title: str) -> None:
    """Draw a confusion matrix into the file ``path``; its suffix decides the format.

    Parameters
    ----------
    path : written atomically.
    confusion : (K, K) how many samples of the class of the row were put into the class of the column; colours show
        the share of the row, numbers are written if there are at most `MOST_WRITTEN` classes.
    classes : (K,) names, written if there are at most `MOST_NAMED`.
    title : the line above.
    """
    K = len(classes)
    figure = _figure(*2 * [min(12.0, 3 + 0.4 * K)])
    axes = figure.add_subplot()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=title, xlabel="predicted class", ylabel="class")
    if K <= MOST_NAMED:
        names = [str(name)[:20] for name in classes]
        axes.set_yticks(range(K), names)
        axes.set_xticks(range(K), names, rotation=90 if max(map(len, names)) > 2 else 0)
    if K <= MOST_WRITTEN:
        for i, j in np.argwhere(confusion):
            color = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, str(confusion[i, j]), ha="center", va="center", color=color, fontsize=8)
    _save(figure, path)


def _figure(width_inches: float, height_inches: float) -> Any:
    """A figure without pyplot: no window system, no global state."""
    from matplotlib.figure import Figure

    return Figure((width_inches, height_inches), layout=None)


def _save(figure: Any, path: Path) -> None:
    with replacing(path, parents=True) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=110, bbox_inches="tight")
