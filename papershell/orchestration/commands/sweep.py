"""``papershell sweep``: fit every regularization rate at once, keep the best model."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from papershell.orchestration.table import print_table

if TYPE_CHECKING:
    from papershell.trainers.datasets import Dataset
    from papershell.trainers.logreg import Sweep
    from papershell.trainers.tracking import Recorder

MODEL_NAME = "sklearn_mnist"
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
    from papershell.trainers.logreg import check_rates

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

    from papershell.trainers.logreg import check_rates

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
    tol: Annotated[
        float, typer.Option(min=0, help="Bound on the largest gradient of a mean objective.")
    ] = 1e-4,
    backend: Annotated[str, typer.Option(help="See `papershell backends`.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for model and figures.")] = Path("outputs"),
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
) -> None:
    """Fit all regularization rates in one batch, compare them, register the best model."""
    start_s = time.perf_counter()
    rates = parse_rates(regularization)
    from papershell.trainers.checkpoint import write_json
    from papershell.trainers.datasets import load_dataset
    from papershell.trainers.logreg import sweep as fit
    from papershell.trainers.logreg import warn_unconverged

    dataset, decode_s = _timed(lambda: load_dataset(data))
    result, fit_s = _timed(
        lambda: fit(dataset, rates, loss=loss.value, folds=folds, tol=tol, backend=backend)
    )
    _print_table(result, dataset, fit_s)
    warn_unconverged(result.solution)
    facts = {
        "dataset": dataset.name,
        "n_train": len(dataset.X_train),
        "n_test": len(dataset.X_test),
        "backend": result.solution.backend,
        "loss": loss.value,
    }
    outcome = {"rates": result.rates(), "best": result.rates()[result.best]}
    model_path = _keep(out, dataset, result, facts, outcome)
    if json:
        seconds = {"decode": decode_s, "fit": fit_s, "total": time.perf_counter() - start_s}
        write_json(json, facts | {"seconds": seconds} | outcome | {"model_path": str(model_path)})


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start_s = time.perf_counter()
    return work(), time.perf_counter() - start_s


def _keep(out: Path, dataset: Dataset, result: Sweep, facts: dict[str, Any], outcome: dict[str, Any]) -> Path:
    """Write model and figures, then record and register them; return the path of the model."""
    from papershell.trainers.linear_model import write_model
    from papershell.trainers.logreg import EXPERIMENT
    from papershell.trainers.tracking import start_run

    files = write_model(out, result.model, facts | outcome)
    figures = _draw(out, dataset, result)
    for path in (*files, *figures):
        print(f"wrote {path}")
    with start_run(EXPERIMENT, f"sweep {dataset.name}") as run:
        _record(run, facts, outcome)
        for path in figures:
            run.log_artifact(path)
        version = run.register_model(MODEL_NAME, files)
    if version:
        print(f"registered {version.name}, id {version.id}, version {version.version}")
    return files[0]


def _record(run: Recorder, facts: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Parameters, one point of each curve per rate, the walk-through's two metrics of the best."""
    rates = [rate["l2"] for rate in outcome["rates"]]
    run.log_params(facts | {"regularization": f"{len(rates)} rates, {min(rates):g} to {max(rates):g}"})
    for step, rate in enumerate(outcome["rates"]):
        run.log_metrics({f"path/{name}": value for name, value in rate.items() if name != "status"}, step)
    best = outcome["best"]
    run.log_metrics({"regularization rate": best["l2"], "accuracy": best["test_accuracy"]})


def _draw(out: Path, dataset: Dataset, result: Sweep) -> list[Path]:
    from papershell.trainers.figures import draw_accuracy, draw_samples

    accuracy, samples = out / "accuracy_by_rate.png", out / "samples.png"
    draw_accuracy(
        accuracy, result.l2, result.test_accuracy, result.best, f"{dataset.name}, {result.loss} loss"
    )
    draw_samples(samples, dataset.X_train.reshape(-1, *dataset.image_shape), dataset.y_train)
    return [accuracy, samples]


def _print_table(result: Sweep, dataset: Dataset, fit_s: float) -> None:
    images = f"{len(dataset.X_train):,} images to train, {len(dataset.X_test):,} to test"
    fit = f"{len(result.l2)} rates in {fit_s:.2f} s on {result.solution.backend}"
    print(f"{dataset.name}: {images}; {fit}")
    folded = ("validation",) if result.cv_accuracy is not None else ()
    headings = ("rate", "C", "loss", "gradient", "iterations", "status", *folded, "test accuracy", "")
    rows = [
        (
            f"{rate['l2']:.4g}",
            f"{rate['C']:.4g}",
            f"{rate['loss']:.6g}",
            f"{rate['grad_norm']:.1e}",
            str(rate["n_iter"]),
            rate["status"].replace("_", " "),
            *(f"{rate['cv_accuracy']:.4f}" for _ in folded),
            f"{rate['test_accuracy']:.4f}",
            "best" if r == result.best else "",
        )
        for r, rate in enumerate(result.rates())
    ]
    print_table(headings, rows, bold={result.best})
