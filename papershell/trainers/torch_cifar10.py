"""The CIFAR-10 walk-through: a small convolutional network, SGD with momentum, batch 4, two epochs.

    python -m papershell.trainers.torch_cifar10                    # this machine
    torchrun --nproc-per-node 2 -m papershell.trainers.torch_cifar10   # data-parallel, batch 4 on each process
    python -m papershell.trainers.torch_cifar10 --recipe fast      # another network (`cifar10_fast`)

The mathematics is the walk-through's. Pixels count as -1..1, which gives the losses that the walk-through
prints; the code it shows scales to 0..1, and so does ``--zero-to-one``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from papershell.kernels.cifar10_net import IMAGE_SHAPE
from papershell.trainers.arguments import add_training_flags, positive, positive_number
from papershell.trainers.checkpoint import Checkpoint
from papershell.trainers.cifar10 import CLASS_NAMES
from papershell.trainers.cifar10_fast import FastTraining
from papershell.trainers.cifar10_model import MODEL_STEM, classify, write_model
from papershell.trainers.cifar10_recipe import Recipe
from papershell.trainers.cifar10_walkthrough import MODEL_NAME, Training
from papershell.trainers.data_parallel import open_processes
from papershell.trainers.datasets import Dataset, read_cifar10, resolve
from papershell.trainers.program import interruptible, run
from papershell.trainers.progress import progress
from papershell.trainers.provenance import check_replaceable
from papershell.trainers.recording import announce
from papershell.trainers.tracking import start_run

EXPERIMENT = "day1-experiment-train"
STEPS_A_CALL = 500  # so often the progress bar moves
DEFAULTS: dict[str, tuple[float, float]] = {  # by flag: of the walk-through, of the fast recipe
    "epochs": (2, 4),
    "batch_size": (4, 256),
    "learning_rate": (0.001, 0.2),
    "print_every": (2000, 50),
    "checkpoint_every": (2000, 200),
}


def model_name(data: Dataset) -> str:
    """Return the name that a network trained on ``data`` is registered under: ``cifar10-net`` if it is CIFAR-10."""
    return MODEL_NAME if data.title == "cifar10" else f"{MODEL_NAME}-{data.title}"


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the walk-through does; ``--help`` lists the flags."""
    args = parser().parse_args(argv)
    fast = args.recipe == "fast"
    for name, defaults in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, defaults[fast])
    with open_processes(args.device) as processes:
        data = read_data(args.data_folder)
        recipe = Recipe(**{name: getattr(args, name) for name in Recipe.__dataclass_fields__})
        training = (
            FastTraining(recipe, data, processes, args.epochs) if fast else Training(recipe, data, processes)
        )
        first = processes.rank == 0
        if first:
            check_replaceable(Path(args.out) / f"{MODEL_STEM}.pt", data, overwrite=args.overwrite)
        with start_run(EXPERIMENT, f"train torch-cifar10 on {data.name}", record=first) as run:
            run.log_params(vars(args))
            seconds = _train(training, args, run)
            if first:
                _finish(training, data, args, run, seconds)


def _train(training: Training | FastTraining, args: argparse.Namespace, run: Any) -> float:
    """Train to the end, from the last checkpoint if asked; print, log and save on the way. Return seconds."""
    checkpoint = Checkpoint(Path(args.out) / f"{MODEL_STEM}_checkpoint.npz", "step")
    first = training.processes.rank == 0
    if args.resume and checkpoint.path.exists():
        training.restore(checkpoint.path)
        checkpoint.saved = training.step
    start, total = time.perf_counter(), args.epochs * training.steps_an_epoch
    with progress("training", total) as update, interruptible(checkpoint.kept):
        while training.step < total:
            training.advance(_stop(training, args))
            if first:
                epoch, batch = _place(training)
                update(training.step, f"epoch {epoch}")
                if batch % args.print_every == 0:
                    _report(training, args, run)
                if training.step % args.checkpoint_every == 0 or training.step == total:
                    training.save(checkpoint.path)
                    checkpoint.saved = training.step
    return time.perf_counter() - start


def _place(training: Training | FastTraining) -> tuple[int, int]:
    """Epoch and batch, both from 1, of the last step."""
    epoch, batch = divmod(training.step - 1, training.steps_an_epoch)
    return epoch + 1, batch + 1


def _stop(training: Training | FastTraining, args: argparse.Namespace) -> int:
    """Return the step at which the next output, checkpoint or shuffle is due."""
    epoch, batch = divmod(training.step, training.steps_an_epoch)
    within = min(_next(batch, args.print_every), _next(batch, STEPS_A_CALL), training.steps_an_epoch)
    return min(epoch * training.steps_an_epoch + within, _next(training.step, args.checkpoint_every))


def _report(training: Training | FastTraining, args: argparse.Namespace, run: Any) -> None:
    """Print and record the mean loss since the last report, as the walk-through does."""
    loss = training.losses[:, -args.print_every :].mean(axis=1)
    spread = f" ({loss.min():.2f} to {loss.max():.2f})" if len(loss) > 1 else ""
    epoch, batch = _place(training)
    print(f"epoch={epoch}, batch={batch:5}: loss {loss.mean():.2f}{spread}", flush=True)
    run.log_metrics({"loss": loss.mean()}, step=training.step)


def _next(step: int, every: int) -> int:
    """The first multiple of ``every`` beyond ``step``."""
    return (step // every + 1) * every


def _finish(
    training: Training | FastTraining, data: Dataset, args: argparse.Namespace, run: Any, seconds: float
) -> None:
    """Print the accuracy, write the model of the first seed, record both."""
    print("Finished Training")
    levels, images = training.recipe.levels(), data.X_test.reshape(-1, *IMAGE_SHAPE)
    nets = training.nets()
    device = "cuda" if training.processes.backend == "torch" else "cpu"
    hits = np.stack([classify(net, images, levels, device) == data.y_test for net in nets])
    accuracy = hits.mean(axis=1)
    spread = (
        f" ({accuracy.min():.4f} to {accuracy.max():.4f} over {len(nets)} seeds)" if len(nets) > 1 else ""
    )
    print(f"accuracy on {len(images):,} test images: {accuracy.mean():.4f}{spread}")
    for label, name in enumerate(CLASS_NAMES):
        of_class = hits[:, data.y_test == label]
        print(f"  {name:<10} {of_class.mean():6.1%} of {of_class.shape[1]:,}")
    run.log_metrics({"accuracy": accuracy.mean(), "seconds": seconds})
    facts = {
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "device": device,
        "processes": training.processes.count,
        "seconds": seconds,
        "recipe": asdict(training.recipe),
        "arguments": vars(args),
        "test_accuracy": accuracy.tolist(),
    }
    files = write_model(Path(args.out), nets[0].cpu(), levels, facts)
    model = run.register_model(args.name or model_name(data), files)
    announce(files, model)


def _defaults(flag: str) -> str:
    return "(default: {}, fast: {})".format(*DEFAULTS[flag])


def read_data(source: str) -> Dataset:
    """Return the CIFAR-10 that ``--data-folder`` names; see `papershell.trainers.datasets.read_cifar10`."""
    return read_cifar10(resolve(source), name=Path(source).name)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    parser = argparse.ArgumentParser(
        "torch-cifar10", description="Train the CIFAR-10 walk-through's network."
    )
    add = parser.add_argument
    add("--data-folder", default="cifar10", help="folder of CIFAR-10's .bin files, or cifar10 (default)")
    add("--recipe", choices=("walk-through", "fast"), default="walk-through", help="(default: walk-through)")
    add("--epochs", type=positive, help=_defaults("epochs"))
    add("--batch-size", type=positive, help="images a step, on each process " + _defaults("batch_size"))
    add("--learning-rate", type=positive_number, help=_defaults("learning_rate"))
    add("--momentum", type=float, default=0.9, help="(default: 0.9)")
    add("--zero-to-one", action="store_true", help="scale pixels to 0..1 instead of -1..1")
    add("--seeds", type=positive, default=1, help="train so many networks at once, seed by seed (default: 1)")
    add("--print-every", type=positive, help="batches " + _defaults("print_every"))
    add_training_flags(parser, every=None, unit="batches " + _defaults("checkpoint_every"))
    return parser


if __name__ == "__main__":
    run(main)
