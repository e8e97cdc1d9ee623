"""MLflow against the loopback workspace: its genuine client, and azureml-core's view of the same runs."""

from __future__ import annotations

import json
import math
import os

import pytest
import requests

from papershell.orchestration import loopback
from tests.orchestration.conftest import log_of

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("azureml.mlflow")

SCRIPT = """
    import matplotlib
    import mlflow
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    mlflow.sklearn.autolog(log_models=False)
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = X[:, 0] > 0
    with mlflow.start_run():
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=10 * step)
        mlflow.log_metrics({"nan": float("nan"), "inf": float("inf"), "accuracy": 0.9, "name with/signs": 1})
        mlflow.log_params({"rate": 0.5})
        mlflow.set_tag("colour", "blue")
        figure = plt.figure()
        plt.plot([1, 2])
        mlflow.log_figure(figure, "plots/line.png")
        model = LogisticRegression(C=3).fit(X, y)
        logged = mlflow.sklearn.log_model(
            model, name="net", pip_requirements=["scikit-learn"], registered_model_name="through-mlflow",
            serialization_format="cloudpickle",
        )
        with mlflow.start_run(run_name="fold 0", nested=True):
            mlflow.log_metric("fold accuracy", 0.8)
    again = mlflow.sklearn.load_model(logged.model_uri)
    assert (again.predict(X) == model.predict(X)).all()
"""


@pytest.fixture(scope="module")
def logged(root, tmp_path_factory):
    """A finished run whose script knew MLflow only."""
    from textwrap import dedent

    from azureml.core import Environment, Experiment, Run, ScriptRunConfig

    folder = tmp_path_factory.mktemp("source")
    (folder / "train.py").write_text(dedent(SCRIPT))
    config = ScriptRunConfig(
        str(folder), script="train.py", compute_target="c1", environment=Environment("probe")
    )
    run = Experiment(loopback.connect(root), "by-mlflow").submit(config)
    Run._WAIT_COMPLETION_POLLING_INTERVAL_MIN = 0.05
    run.wait_for_completion(raise_on_error=False)
    assert run.get_status() == "Completed", log_of(root, run).read_text()
    return run


@pytest.fixture
def tracking(workspace):
    """MLflow's client on the workspace, by azureml-mlflow."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(workspace.get_mlflow_tracking_uri())
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def test_what_a_script_logs_with_mlflow_is_its_run_in_azureml_core(logged):
    metrics = logged.get_metrics()
    assert metrics["loss"] == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    assert (metrics["accuracy"], metrics["name with/signs"], metrics["inf"]) == (0.9, 1.0, math.inf)
    assert math.isnan(metrics["nan"]) and "training_accuracy_score" in metrics
    assert logged.get_tags()["colour"] == "blue"
    files = set(logged.get_file_names())
    assert {"plots/line.png", "net/MLmodel", "net/model.pkl", "user_logs/std_log.txt"} <= files
    (child,) = logged.get_children()
    assert (child.display_name, child.get_metrics(), child.get_status()) == (
        "fold 0", {"fold accuracy": 0.8}, "Completed"
    )  # fmt: skip


def test_mlflows_own_client_reads_the_same_run(logged, tracking):
    run = tracking.get_run(logged.id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", logged.id)
    assert run.data.metrics["loss"] == 0.2 and math.isnan(run.data.metrics["nan"])
    assert run.data.params["rate"] == "0.5" and run.data.params["C"] == "3"
    history = tracking.get_metric_history(logged.id, "loss")
    assert [(m.step, m.value) for m in history] == [(10 * i, 1 / (i + 1)) for i in range(5)]
    assert {f.path for f in tracking.list_artifacts(logged.id, "plots")} == {"plots/line.png"}


def test_a_model_that_mlflow_registered_is_the_workspaces(logged, workspace, tracking, tmp_path):
    from azureml.core import Model

    model = Model(workspace, "through-mlflow")
    assert (model.version, model.run_id) == (1, logged.id)
    assert os.path.exists(os.path.join(model.download(str(tmp_path)), "MLmodel"))
    version = tracking.get_model_version("through-mlflow", "1")
    assert (version.status, version.run_id) == ("READY", logged.id)
    own = logged.register_model("through-azureml", model_path="net")
    assert tracking.get_registered_model(own.name).latest_versions[0].version == "1"
    assert (
        mlflow.artifacts.download_artifacts("models:/through-azureml/1", dst_path=str(tmp_path / "again"))
        and (tmp_path / "again" / "MLmodel").exists()
    )
    with pytest.raises(mlflow.MlflowException, match="already"):
        tracking.create_registered_model("through-azureml")


def test_metrics_of_azureml_core_are_mlflows(submit_script, tracking):
    run = submit_script("""
        from azureml.core import Run
        run = Run.get_context(allow_offline=False)
        for value in (3, 2, 1):
            run.log("loss", value)
        run.log_row("row", a=1, b="x")
        run.complete()
    """)
    run.wait_for_completion()
    assert tracking.get_run(run.id).data.metrics == {"loss": 1.0}
    history = tracking.get_metric_history(run.id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_runs_are_begun_and_searched_from_outside(workspace, tracking):
    from azureml.core import Experiment

    mlflow.set_experiment("outside")
    ids = []
    for number in range(3):
        with mlflow.start_run(run_name=f"run {number}") as run:
            mlflow.log_metric("accuracy", 0.5 + number / 10)
            mlflow.log_param("parity", "odd" if number % 2 else "even")
            mlflow.log_text("hello", "notes/a.txt")
            ids.append(run.info.run_id)
    assert mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/a.txt") == "hello"
    with pytest.raises(ValueError), mlflow.start_run() as failed:
        raise ValueError
    experiments = [tracking.get_experiment_by_name("outside").experiment_id]

    def found(text: str = "", **more) -> list[str]:
        return [run.info.run_id for run in tracking.search_runs(experiments, text, **more)]

    assert found() == [failed.info.run_id, *reversed(ids)]
    assert found("metrics.accuracy > 0.55 and params.parity = 'even'") == [ids[2]]
    assert found("params.parity IN ('odd', 'none')") == [ids[1]] and found("status = 'FAILED'")
    assert found("run_name LIKE 'run %'", order_by=["metrics.accuracy ASC"]) == ids
    assert found("metrics.accuracy IS NULL") == [failed.info.run_id]
    assert found(order_by=["metrics.accuracy DESC"], max_results=2) == [ids[2], ids[1]]
    with pytest.raises(mlflow.MlflowException, match="cannot be read"):
        found("accuracy ~ 3")
    seen = {run.id: run for run in Experiment(workspace, "outside").get_runs()}
    assert seen[ids[1]].get_metrics() == {"accuracy": 0.6} and seen[ids[1]].display_name == "run 1"
    assert seen[failed.info.run_id].get_status() == "Failed"
    with pytest.raises(mlflow.MlflowException, match="already"):
        tracking.log_param(ids[0], "parity", "odd")
    assert tracking.get_experiment_by_name("no such") is None


def test_a_repeated_request_logs_no_value_twice(root, workspace, tracking):
    address = loopback.find(root)
    run = tracking.create_run("0")
    body = {"run_id": run.info.run_id, "metrics": [{"key": "m", "value": 1.5, "timestamp": 1, "step": 0}]}
    url = f"{address.url}/mlflow/v2.0{workspace.service_context._get_workspace_scope()}/api/2.0/mlflow/runs/log-batch"
    for _ in range(2):
        answer = requests.post(url, json=body, headers={"Authorization": f"Bearer {address.token}"})
        assert answer.status_code == 200
    assert len(tracking.get_metric_history(run.info.run_id, "m")) == 1
    tracking.set_terminated(run.info.run_id)


def test_no_signature_gets_into_the_log(logged, root):
    key = json.loads((root / "identity.json").read_text())["key"]
    from papershell.orchestration.loopback.tokens import Tokens

    log = (root / "access.log").read_text()
    assert "/mlflow-files/SIGNATURE/" in log
    assert all(Tokens(key).signature(place) not in log for place in ("azureml", "discovery"))
