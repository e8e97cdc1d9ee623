"""The results of a sweep: model files and figures in a folder, the record of its run, the registered model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papershell.trainers import provenance
from papershell.trainers.datasets import Dataset
from papershell.trainers.figures import draw_accuracy, draw_captioned, draw_confusion, draw_samples
from papershell.trainers.judging import Report
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
    facts : data set, back end, loss, one record for each rate, the best one, and the best one's report.
    report : the best model, judged on the test part; without one, on rows that were held out.
    files : of the best model; the first is the one for scikit-learn.
    figures : accuracy by rate, confusion matrix; of images samples and the most confident mistakes.
    model : the registered version; None if nothing is recorded.
    """

    facts: dict[str, Any]
    report: Report
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
    report = result.report(data)
    facts = _facts(result, data, report)
    with interruptible(lambda: f"the files in {folder} are whole, the model is not registered"):
        files, figures = write_model(folder, result.model, facts), _draw(result, report, data, folder)
        with start_run(EXPERIMENT, f"sweep {data.name}") as run:
            _record(run, facts)
            for path in figures:
                run.log_artifact(path)
            model = run.register_model(name or model_name(data), files)
    return Kept(facts, report, files, figures, model)


def _facts(result: Sweep, data: Dataset, report: Report) -> dict[str, Any]:
    rates = result.rates()
    return {
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "n_train": len(data.X_train),
        "n_validation": 0 if result.masks is None else int((~result.masks).sum()),
        "n_test": len(data.X_test),
        "backend": result.solution.backend,
        "loss": result.loss,
        "chosen_on": result.chosen_on,
        "rates": rates,
        "best": rates[result.best],
        "report": report.record(),
    }


def _record(run: Recorder, facts: dict[str, Any]) -> None:
    """Record parameters, one point of each curve per rate, and the walk-through's two metrics of the best rate."""
    rates, best, report = facts["rates"], facts["best"], facts["report"]
    params = {name: value for name, value in facts.items() if name not in ("rates", "best", "report")}
    asked = [rate["l2"] for rate in rates]
    run.log_params(params | {"regularization": f"{len(asked)} rates, {min(asked):g} to {max(asked):g}"})
    for step, rate in enumerate(rates):
        known = {name: value for name, value in rate.items() if name != "status" and value is not None}
        run.log_metrics({f"path/{name}": value for name, value in known.items()}, step)
    run.log_metrics(
        {
            "regularization rate": best["l2"],
            "accuracy": report["accuracy"],
            "accuracy low": report["interval"][0],
            "accuracy high": report["interval"][1],
            "log loss": report["log_loss"],
        }
    )


def _draw(result: Sweep, report: Report, data: Dataset, folder: Path) -> list[Path]:
    title = f"{data.name}, {result.loss} loss"
    parts = {"validation": result.validation, "test": result.test}
    accuracy = {part: found.accuracy for part, found in parts.items() if found}
    figures = [folder / "accuracy_by_rate.png", folder / "confusion_matrix.png"]
    draw_accuracy(figures[0], result.l2, accuracy, result.best, title)
    draw_confusion(figures[1], report.confusion, report.classes, f"{title}, {report.part} part")
    if data.are_images:
        figures += [folder / "samples.png", *[folder / "mistakes.png"] * (len(report.mistakes) > 0)]
        draw_samples(figures[2], data.pictures(data.X_train), data.y_train)
        _draw_mistakes(folder / "mistakes.png", report, data)
    return figures


def _draw_mistakes(path: Path, report: Report, data: Dataset) -> None:
    """Draw the most confident mistakes; a picture of an earlier model is removed if this one made none."""
    if not len(report.mistakes):
        path.unlink(missing_ok=True)
        return
    X = data.X_test if report.part == "test" else data.X_train
    captions = [
        f"{own}, not {other}\n{chance:.0%}"
        for (own, other), chance in zip(report.classes[report.mistaken], report.confidence, strict=True)
    ]
    draw_captioned(path, data.pictures(X[report.mistakes]), captions, (2, 6))
