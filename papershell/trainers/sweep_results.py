"""The results of a sweep: model files and figures in a folder, the record of its run, the registered model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papershell.trainers import provenance
from papershell.trainers.datasets import Dataset
from papershell.trainers.figures import draw_accuracy, draw_samples
from papershell.trainers.linear_model import model_path, write_model
from papershell.trainers.logreg import EXPERIMENT, model_name
from papershell.trainers.program import interruptible
from papershell.trainers.recording import ModelVersion, Recorder
from papershell.trainers.sweep import Sweep
from papershell.trainers.tracking import start_run


@dataclass(frozen=True)
class Kept:
    """The files, record and model of a sweep.

    Attributes
    ----------
    facts : data set, back end, loss, one record for each rate, the best one.
    files : of the best model; the first is the one for scikit-learn.
    figures : accuracy by rate, sample images.
    model : the registered version; None if nothing is recorded.
    """

    facts: dict[str, Any]
    files: list[Path]
    figures: list[Path]
    model: ModelVersion | None


def check_replaceable(folder: Path, data: Dataset, *, overwrite: bool) -> None:
    """Raise `papershell.trainers.provenance.ModelExistsError` if ``folder`` has a model of other data."""
    provenance.check_replaceable(model_path(folder), data, overwrite=overwrite)


def keep(result: Sweep, data: Dataset, folder: Path, *, name: str | None = None) -> Kept:
    """Write model and figures into ``folder``, record the run, register the best model.

    Parameters
    ----------
    name : registers the model under it; None takes `papershell.trainers.logreg.model_name`.
    """
    facts = _facts(result, data)
    with interruptible(lambda: f"the files in {folder} are whole, the model is not registered"):
        files, figures = write_model(folder, result.model, facts), _draw(result, data, folder)
        with start_run(EXPERIMENT, f"sweep {data.name}") as run:
            _record(run, facts)
            for path in figures:
                run.log_artifact(path)
            model = run.register_model(name or model_name(data), files)
    return Kept(facts, files, figures, model)


def _facts(result: Sweep, data: Dataset) -> dict[str, Any]:
    rates = result.rates()
    return {
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "n_train": len(data.X_train),
        "n_test": len(data.X_test),
        "backend": result.solution.backend,
        "loss": result.loss,
        "rates": rates,
        "best": rates[result.best],
    }


def _record(run: Recorder, facts: dict[str, Any]) -> None:
    """Record parameters, one point of each curve per rate, and the walk-through's two metrics of the best rate."""
    rates, best = facts["rates"], facts["best"]
    params = {name: value for name, value in facts.items() if name not in ("rates", "best")}
    asked = [rate["l2"] for rate in rates]
    run.log_params(params | {"regularization": f"{len(asked)} rates, {min(asked):g} to {max(asked):g}"})
    for step, rate in enumerate(rates):
        run.log_metrics({f"path/{name}": value for name, value in rate.items() if name != "status"}, step)
    run.log_metrics({"regularization rate": best["l2"], "accuracy": best["test_accuracy"]})


def _draw(result: Sweep, data: Dataset, folder: Path) -> list[Path]:
    accuracy, samples = folder / "accuracy_by_rate.png", folder / "samples.png"
    title = f"{data.name}, {result.loss} loss"
    draw_accuracy(accuracy, result.l2, result.test_accuracy, result.best, title)
    draw_samples(samples, data.pictures(), data.y_train)
    return [accuracy, samples]
