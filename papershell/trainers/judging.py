"""How well a classifier does on samples that it was not fitted to: accuracy and its interval, confusions, mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

QUANTILE = 1.959963984540054  # of the normal distribution: 95 % lie within so many deviations
MISTAKES = 12


@dataclass(frozen=True)
class Report:
    """One classifier on n samples of K classes.

    Attributes
    ----------
    part : the samples that it was judged on: ``test``, or ``validation`` if there is no test part.
    classes : (K,) labels.
    confusion : (K, K) how many samples of the class of the row were put into the class of the column.
    log_loss : mean of -log(probability of the sample's own class).
    mistakes : (m,) the wrong predictions of the largest probability, at most `MISTAKES`, as rows of the part.
    mistaken : (m, 2) their own class and the predicted one, as indexes of ``classes``.
    confidence : (m,) the probability of the predicted class.
    """

    part: str
    classes: np.ndarray
    confusion: np.ndarray
    log_loss: float
    mistakes: np.ndarray
    mistaken: np.ndarray
    confidence: np.ndarray

    @property
    def n(self) -> int:
        """The number of samples."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of samples that were put into their own class."""
        return float(np.trace(self.confusion) / self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy; see `wilson`."""
        return wilson(int(np.trace(self.confusion)), self.n)

    @property
    def recall(self) -> np.ndarray:
        """(K,) the share of each class that was recognized; NaN for a class without samples."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def precision(self) -> np.ndarray:
        """(K,) the share of the samples put into each class that belong there; NaN for a class without any."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    def record(self) -> dict[str, Any]:
        """Return the report as JSON takes it; a precision or recall that is not defined is None."""
        per_class = zip(
            self.classes.tolist(), self.precision, self.recall, self.confusion.sum(axis=1), strict=True
        )
        mistakes = zip(
            self.mistakes.tolist(), self.classes[self.mistaken].tolist(), self.confidence, strict=True
        )
        return {
            "part": self.part,
            "n": self.n,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "log_loss": self.log_loss,
            "per_class": [
                {"class": label, "precision": _number(p), "recall": _number(r), "n": int(n)}
                for label, p, r, n in per_class
            ],
            "confusion": self.confusion.tolist(),
            "mistakes": [
                {"row": row, "class": own, "predicted": other, "probability": float(p)}
                for row, (own, other), p in mistakes
            ],
        }


def judge(
    part: str,
    classes: np.ndarray,
    rows: np.ndarray,
    y: np.ndarray,
    predicted: np.ndarray,
    own_chance: np.ndarray,
    chance: np.ndarray,
) -> Report:
    """Return the report on predictions.

    Parameters
    ----------
    part : name of the samples.
    classes : (K,) labels.
    rows : (n,) where each sample stands in the part.
    y, predicted : (n,) own and predicted class, 0..K-1.
    own_chance, chance : (n,) probabilities of the own and of the predicted class.
    """
    K = len(classes)
    confusion = np.bincount(y * K + predicted, minlength=K * K).reshape(K, K)
    wrong = np.flatnonzero(y != predicted)
    worst = wrong[np.argsort(-chance[wrong], kind="stable")][:MISTAKES]
    log_loss = float(-np.log(np.maximum(own_chance, np.finfo(np.float64).tiny)).mean())  # some underflow to 0
    mistaken = np.column_stack([y[worst], predicted[worst]])
    return Report(part, classes, confusion, log_loss, rows[worst], mistaken, chance[worst])


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of which ``hits`` of ``n`` were seen.

    Wilson, *Probable inference, the law of succession, and statistical inference*, 1927: the shares p whose
    distance to hits / n is at most `QUANTILE` times sqrt(p (1 - p) / n).
    """
    share, z2 = hits / n, QUANTILE**2 / n
    middle, half = share + z2 / 2, QUANTILE * sqrt(share * (1 - share) / n + z2 / (4 * n))
    return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
