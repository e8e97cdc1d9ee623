"""``papershell sweep``: fit every regularization rate at once, keep the best model."""

from __future__ import annotations

import re
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.table import print_table

if TYPE_CHECKING:
    from trainers.datasets import Dataset
    from trainers.logreg import Sweep
    from trainers.tracking import Recorder

MODEL_NAME = "sklearn_mnist"
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
    from trainers.logreg import check_rates

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

    from trainers.logreg import check_rates

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
    backend: Annotated[str, typer.Option(help="See `papershell backends`.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for model and figures.")] = Path("outputs"),
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
) -> None:
    """Fit all regularization rates in one batch, compare them, register the best model."""
    start_s = time.perf_counter()
    rates = parse_rates(regularization)
    from trainers import logreg
    from trainers.checkpoint import write_json
    from trainers.datasets import load_dataset
    from trainers.tracking import start_run

    loading_s = time.perf_counter()
    dataset = load_dataset(data)
    fitting_s = time.perf_counter()
    result = logreg.sweep(dataset, rates, loss=loss.value, backend=backend)
    seconds = {"decode": fitting_s - loading_s, "fit": time.perf_counter() - fitting_s}
    _print_table(result, dataset, seconds)
    facts = {
        "dataset": dataset.name,
        "n_train": len(dataset.X_train),
        "n_test": len(dataset.X_test),
        "backend": result.solution.backend,
        "loss": loss.value,
    }
    results = {"rates": result.rates(), "best": result.rates()[result.best]}
    with start_run(logreg.EXPERIMENT, f"sweep {dataset.name}") as run:
        files = logreg.write_model(out, result.model, facts | results)
        _record(run, facts, results, [*files, *_draw(out, dataset, result)])
        version = run.register_model(MODEL_NAME, files)
    if version:
        print(f"registered {version.name}, id {version.id}, version {version.version}")
    seconds["total"] = time.perf_counter() - start_s
    if json:
        write_json(json, facts | {"seconds": seconds} | results | {"model_path": str(files[0])})


def _record(run: Recorder, facts: dict[str, Any], results: dict[str, Any], files: list[Path]) -> None:
    """Parameters, one point of each curve per rate, the walk-through's two metrics of the best, files."""
    run.log_params(facts | {"regularization": [rate["l2"] for rate in results["rates"]]})
    for step, rate in enumerate(results["rates"]):
        run.log_metrics({f"path/{name}": v for name, v in rate.items() if name != "status"}, step)
    best = results["best"]
    run.log_metrics({"regularization rate": best["l2"], "accuracy": best["test_accuracy"]})
    for path in files:
        run.log_artifact(path)
        print(f"wrote {path}")


def _draw(out: Path, dataset: Dataset, result: Sweep) -> list[Path]:
    from trainers.figures import draw_accuracy, draw_samples

    accuracy, samples = out / "accuracy_by_rate.png", out / "samples.png"
    draw_accuracy(
        accuracy, result.l2, result.test_accuracy, result.best, f"{dataset.name}, {result.loss} loss"
    )
    draw_samples(samples, dataset.X_train.reshape(-1, *dataset.image_shape), dataset.y_train)
    return [accuracy, samples]


def _print_table(result: Sweep, dataset: Dataset, seconds: dict[str, float]) -> None:
    images = f"{len(dataset.X_train):,} images to train, {len(dataset.X_test):,} to test"
    fit = f"{len(result.l2)} rates in {seconds['fit']:.2f} s on {result.solution.backend}"
    print(f"{dataset.name}: {images}; {fit}")
    headings = ("rate", "C", "loss", "gradient", "iterations", "status", "test accuracy", "")
    rows = [
        (
            f"{rate['l2']:.4g}",
            f"{rate['C']:.4g}",
            f"{rate['loss']:.6g}",
            f"{rate['grad_norm']:.1e}",
            str(rate["n_iter"]),
            rate["status"].replace("_", " "),
            f"{rate['test_accuracy']:.4f}",
            "best" if r == result.best else "",
        )
        for r, rate in enumerate(result.rates())
    ]
    print_table(headings, rows, bold={result.best})
