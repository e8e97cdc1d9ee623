"""``papershell sweep``: fit every regularization rate at once, keep the best model."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from papershell.orchestration.table import print_table

if TYPE_CHECKING:
    from papershell.trainers.datasets import Dataset
    from papershell.trainers.sweep import Sweep

T = TypeVar("T")
Loss = Enum("Loss", {"multinomial": "multinomial", "ovr": "ovr"})
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
    data: Annotated[str, typer.Option(help="digits, mnist, or a folder of IDX files.")] = "digits",
    regularization: Annotated[
        list[str], typer.Option(help="Rates (1/C): 0.5 0.8, or FIRST:LAST:COUNT spaced in the logarithm.")
    ] = ["0.01:100:16"],  # noqa: B006 (typer reads it and copies)
    loss: Annotated[
        Loss, typer.Option(help="One softmax model, or one-vs-rest, its intercept penalized as by liblinear.")
    ] = Loss.multinomial,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Choose the best by cross-validation with so many folds.")
    ] = None,
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
    result, fit_s = _timed(
        lambda: fit(dataset, rates, loss=loss.value, folds=folds, tol=tol, gap=gap, backend=backend)
    )
    _print_table(result, dataset, fit_s, gap)
    warn_unconverged(result.solution)
    kept = sweep_results.keep(result, dataset, out, name=name)
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
    images = f"{len(dataset.X_train):,} images to train, {len(dataset.X_test):,} to test"
    fit = f"{len(result.l2)} rates in {fit_s:.2f} s on {result.solution.backend}"
    print(f"{dataset.name}: {images}; {fit}")
    folded = ("validation",) if result.cv_accuracy is not None else ()
    headings = ("rate", "C", "loss", "gap", "status", *folded, "test accuracy", "")
    rows = [
        (
            f"{rate['l2']:.4g}",
            f"{rate['C']:.4g}",
            _certain(rate["loss"], gap),
            _bound(rate["gap"], gap),
            rate["status"].replace("_", " "),
            *(f"{rate['cv_accuracy']:.4f}" for _ in folded),
            f"{rate['test_accuracy']:.4f}",
            "best" if r == result.best else "",
        )
        for r, rate in enumerate(result.rates())
    ]
    print_table(headings, rows, bold={result.best})


def _certain(loss: float, gap: float) -> str:
    """The digits of a loss that are its optimum's too, so that every machine and back end prints the same."""
    digits = max(1, math.floor(-math.log10(max(gap, 1e-15))) - 1)
    rounded = float(f"{loss:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(rounded or 1)))}f}"


def _bound(proven: float | None, asked: float) -> str:
    """The bound that holds: the one asked for, since how far below it a solver ends depends on the machine."""
    return "not proven" if proven is None else f"{max(proven, asked):.1g}"
