"""The trainers that the command runs and submits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trainer:
    """A trainer, with the defaults of the walk-through it comes from.

    Attributes
    ----------
    gpu : whether it is made for a GPU.
    distributed : whether several processes can train one model.
    libraries : the packages, by pip's or conda's name, that must have code for the GPU.
    """

    module: str
    summary: str
    experiment: str
    data: str
    gpu: bool = False
    distributed: bool = False
    libraries: tuple[str, ...] = ()


TRAINERS: dict[str, Trainer] = {
    "logreg": Trainer(
        "papershell.trainers.logreg",
        "Logistic regression, as in the walk-through on MNIST.",
        "sklearn-mnist",
        "mnist",
        distributed=True,
        libraries=("torch", "cupy-cuda12x", "cupy-cuda13x"),
    ),
    "keras-mnist": Trainer(
        "papershell.trainers.keras_mnist",
        "Keras network on MNIST.",
        "keras-mnist",
        "mnist",
        gpu=True,
        libraries=("tensorflow", "tensorflow-gpu"),
    ),
    "torch-cifar10": Trainer(
        "papershell.trainers.torch_cifar10",
        "PyTorch network on CIFAR-10.",
        "day1-experiment-train",
        "cifar10",
        gpu=True,
        distributed=True,
        libraries=("torch",),
    ),
}
