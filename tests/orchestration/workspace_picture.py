"""The picture of the workspace's page in the documentation: a run that logs with MLflow, as Chromium shows it.

``python -m tests.orchestration.workspace_picture docs/workspace.png``
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

from tests.benchmarks.browser import Page
from tests.benchmarks.conftest import chromium

SIZE = (1100, 1000)  # in CSS pixels
SCRIPT = """
    import sys

    import matplotlib
    import mlflow
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import ConfusionMatrixDisplay, log_loss

    matplotlib.use("agg")
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=float(sys.argv[1]), random_state=0)
    mlflow.log_params({"eta0": model.eta0, "batch": 300})
    for epoch in range(40):
        for rows in np.array_split(np.random.default_rng(epoch).permutation(1400), 5):
            model.partial_fit(X[rows], y[rows], classes=np.arange(10))
        loss, accuracy = log_loss(y[:1400], model.predict_proba(X[:1400])), model.score(X[1400:], y[1400:])
        mlflow.log_metrics({"loss": loss, "accuracy": accuracy}, step=epoch)
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: loss {loss:.3f}, accuracy {accuracy:.4f}")
    mlflow.log_metric("final accuracy", accuracy)
    mlflow.log_figure(ConfusionMatrixDisplay.from_estimator(model, X[1400:], y[1400:]).figure_, "confusion.png")
"""


def main(target: Path) -> None:
    """Serve a workspace, run the script in it, and write the picture of the run's page."""
    from azureml.core import Environment, Experiment, ScriptRunConfig

    from papershell.orchestration import loopback
    from tests.orchestration.conftest import served

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        source = Path(folder) / "source"
        source.mkdir()
        (source / "train.py").write_text(dedent(SCRIPT))
        with served(Path(folder) / "workspace") as root, chromium() as driver:
            config = ScriptRunConfig(str(source), script="train.py", arguments=[0.05], compute_target="c1",
                                     environment=Environment("digits"))  # fmt: skip
            run = Experiment(loopback.connect(root), "digits-sgd").submit(config)
            run.display_name = "SGD, step 0.05"
            run.wait_for_completion()
            page = Page(driver, Path(folder)).load(loopback.page_link(root), width=SIZE[0], height=SIZE[1])
            page.load(run.get_portal_url(), width=SIZE[0], height=SIZE[1])
            target.write_bytes(page.driver.get_screenshot_as_png())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
