"""The trainers that the command runs and submits: a row for each of papershell's own, and any script."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import papershell

# papershell's own trainers travel in its package, without the rooms that a job does not need; in gitignore's words.
PACKAGE_SOURCE = Path(papershell.__file__).resolve().parents[1]
PACKAGE_ONLY = ("/*", "!/papershell", "/papershell/orchestration", "/papershell/benchmarks")


@dataclass(frozen=True)
class Trainer:
    """A program that trains, with the defaults of its jobs.

    Attributes
    ----------
    module : the name by which Python runs it, with ``main(argv)`` and ``parser()``; empty for a script of one's own.
    script : its file, below the folder that travels.
    experiment : the default experiment.
    summary : one sentence.
    data : the default data set; None if it needs none.
    gpu : whether it is made for a GPU; None if that is not known.
    distributed : whether several processes can train one model.
    libraries : the packages, by pip's or conda's name, that must have code for the GPU; none stands for all.
    """

    module: str
    script: str
    experiment: str
    summary: str = ""
    data: str | None = None
    gpu: bool | None = None
    distributed: bool = True
    libraries: tuple[str, ...] = ()

    @property
    def program(self) -> tuple[str, ...]:
        """The words after ``python`` in the source's folder."""
        return ("-m", self.module) if self.module else (self.script,)


def script_trainer(script: str) -> Trainer:
    """Return a script of one's own, by its POSIX path below the source, as a trainer about which little is known."""
    return Trainer("", script, Path(script).stem)


TRAINERS: dict[str, Trainer] = {
    "logreg": Trainer(
        "papershell.trainers.logreg",
        "papershell/trainers/logreg.py",
        "sklearn-mnist",
        "Logistic regression, as in the walk-through on MNIST.",
        "mnist",
        gpu=False,
        libraries=("torch", "cupy-cuda12x", "cupy-cuda13x"),
    ),
    "keras-mnist": Trainer(
        "papershell.trainers.keras_mnist",
        "papershell/trainers/keras_mnist.py",
        "keras-mnist",
        "Keras network on MNIST.",
        "mnist",
        gpu=True,
        distributed=False,
        libraries=("tensorflow", "tensorflow-gpu"),
    ),
    "torch-cifar10": Trainer(
        "papershell.trainers.torch_cifar10",
        "papershell/trainers/torch_cifar10.py",
        "day1-experiment-train",
        "PyTorch network on CIFAR-10.",
        "cifar10",
        gpu=True,
        libraries=("torch",),
    ),
}
