"""``papershell sweep``: fit every regularization rate at once, keep the best model."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from papershell.orchestration.table import print_table

if TYPE_CHECKING:
    from papershell.trainers.dataset import Dataset
    from papershell.trainers.judging import Report
    from papershell.trainers.sweep import Sweep

T = TypeVar("T")
Loss = Enum("Loss", {"multinomial": "multinomial", "ovr": "ovr"})
Part = Enum("Part", {"validation": "validation", "test": "test"})
MOST_CLASSES = 20  # up to which the table of the classes is whole
_RANGE = re.compile(r"([^:]+):([^:]+):(\d+)")


def register(app: typer.Typer) -> None:
    app.command()(sweep)


def parse_rates(texts: list[str]) -> list[float]:
    """Return the rates that ``texts`` name: values, or ``FIRST:LAST:COUNT`` spaced evenly in the logarithm.

    Raises
    ------
    typer.BadParameter
        A text is neither; the command ends with exit code 2.
    """
    from papershell.trainers.sweep import check_rates

    rates: list[float] = []
    try:
        for word in " ".join(texts).replace(",", " ").split():
            rates += _log_spaced(*bounds.groups()) if (bounds := _RANGE.fullmatch(word)) else [float(word)]
        return list(check_rates(rates))
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}; write values, as in 0.5 0.8, or FIRST:LAST:COUNT, as in 0.01:100:16"
        ) from error


def _log_spaced(first: str, last: str, count: str) -> list[float]:
    import numpy as np

    from papershell.trainers.sweep import check_rates

    start, stop = check_rates([float(first), float(last)])
    return list(np.geomspace(start, stop, int(count)))


def sweep(
    data: Annotated[
        str, typer.Option(help="digits, mnist, cifar10, a folder, an .npz or a .safetensors file.")
    ] = "digits",
    regularization: Annotated[
        list[str], typer.Option(help="Rates (1/C): 0.5 0.8, or FIRST:LAST:COUNT spaced in the logarithm.")
    ] = ["0.01:100:16"],  # noqa: B006 (typer reads it and copies)
    loss: Annotated[
        Loss, typer.Option(help="One softmax model, or one-vs-rest, its intercept penalized as by liblinear.")
    ] = Loss.multinomial,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Choose the best by cross-validation with so many folds.")
    ] = None,
    validation: Annotated[
        float,
        typer.Option(
            help="Without folds, choose the best on this share of the training part, held out at random."
        ),
    ] = 0.2,
    choose_on: Annotated[
        Part,
        typer.Option(help="The part that the best is chosen on; with test no training sample is held out."),
    ] = Part.validation,
    standardize: Annotated[
        bool, typer.Option("--standardize", help="Penalize the weights of standardized features (floats).")
    ] = False,
    gap: Annotated[
        float, typer.Option(min=0, help="Prove each loss to lie within this share of its optimum.")
    ] = 1e-4,
    tol: Annotated[
        float | None, typer.Option(min=0, help="Bound the largest gradient of each mean objective as well.")
    ] = None,
    backend: Annotated[str, typer.Option(help="See `papershell backends`.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for model and figures.")] = Path("outputs"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model there that was made from other data.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Register the model under this name (default: sklearn_DATA).")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
) -> None:
    """Fit all regularization rates in one batch, compare them, register the best model."""
    start_s = time.perf_counter()
    rates = parse_rates(regularization)
    from papershell.kernels.files import write_json
    from papershell.trainers import sweep_results
    from papershell.trainers.datasets import load_dataset
    from papershell.trainers.sweep import sweep as fit
    from papershell.trainers.sweep import warn_unconverged

    dataset, decode_s = _timed(lambda: load_dataset(data))
    sweep_results.check_replaceable(out, dataset, overwrite=overwrite)
    chosen: dict[str, Any] = {
        "folds": folds,
        "validation": validation,
        "choose_on": choose_on.value,
        "standardize": standardize,
    }
    result, fit_s = _timed(
        lambda: fit(dataset, rates, loss=loss.value, tol=tol, gap=gap, backend=backend, **chosen)
    )
    _print_table(result, dataset, fit_s, gap)
    warn_unconverged(result.solution)
    kept = sweep_results.keep(result, dataset, out, name=name)
    _print_report(kept.report, dataset)
    for path in (*kept.files, *kept.figures):
        print(f"wrote {path}")
    if kept.model:
        print(f"registered {kept.model.name}, id {kept.model.id}, version {kept.model.version}")
    if json:
        seconds = {"decode": decode_s, "fit": fit_s, "total": time.perf_counter() - start_s}
        write_json(json, kept.facts | {"seconds": seconds, "model_path": str(kept.files[0])})


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start_s = time.perf_counter()
    return work(), time.perf_counter() - start_s


def _print_table(result: Sweep, dataset: Dataset, fit_s: float, gap: float) -> None:
    fit = f"{len(result.l2)} rates in {fit_s:.2f} s on {result.solution.backend}"
    print(f"{dataset.name}: {_sizes(result, dataset)}; {fit}")
    parts = [part for part in ("validation", "test") if getattr(result, part)]
    measured = [f"{part}_{name}" for part in parts for name in ("accuracy", "log_loss")]
    columns = [heading for part in parts for heading in (f"{part} accuracy", "log loss")]
    headings = ("rate", "C", "loss", "gap", "status", *columns, "")
    rows = [
        (
            f"{rate['l2']:.4g}",
            f"{rate['C']:.4g}",
            _certain(rate["loss"], gap),
            _bound(rate["gap"], gap),
            rate["status"].replace("_", " "),
            *(f"{rate[name]:.{4 if 'accuracy' in name else 3}f}" for name in measured),
            "best" if r == result.best else "",
        )
        for r, rate in enumerate(result.rates())
    ]
    print_table(headings, rows, bold={result.best})


def _sizes(result: Sweep, dataset: Dataset) -> str:
    """How many samples there are, and how many of them were held out to choose by."""
    held_out = ""
    if result.masks is not None:
        folds, count = len(result.masks), (~result.masks).sum()
        held_out = f" ({count:,} of them held out)" if folds == 1 else f" in {folds} folds"
    test = f"{len(dataset.X_test):,} to test" if len(dataset.X_test) else "none to test"
    return f"{len(dataset.X_train):,} {dataset.noun}s to train{held_out}, {test}"


def _print_report(report: Report, dataset: Dataset) -> None:
    """Print how the best model does on each class, of many classes on those that it recognizes worst."""
    low, high = report.interval
    print(
        f"the best on the {report.part} part: accuracy {report.accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f}"
    )
    classes = report.record()["per_class"]
    if len(classes) > MOST_CLASSES:
        classes = sorted(classes, key=lambda each: each["recall"] or 0)[: MOST_CLASSES // 2]
        print(f"the {len(classes)} classes that it recognizes worst:")
    rows = [
        (str(each["class"]), *(_share(each[name]) for name in ("precision", "recall")), f"{each['n']:,}")
        for each in classes
    ]
    print_table(("class", "precision", "recall", f"{dataset.noun}s"), rows)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _certain(loss: float, gap: float) -> str:
    """The digits of a loss that are its optimum's too, so that every machine and back end prints the same."""
    digits = max(1, math.floor(-math.log10(max(gap, 1e-15))) - 1)
    rounded = float(f"{loss:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(rounded or 1)))}f}"


def _bound(proven: float | None, asked: float) -> str:
    """The bound that holds: the one asked for, since how far below it a solver ends depends on the machine."""
    return "not proven" if proven is None else f"{max(proven, asked):.1g}"
