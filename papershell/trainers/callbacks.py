"""scikit-learn's callbacks (`sklearn.callback`) during a fit by `kernels.fit_path`."""

from __future__ import annotations

from typing import Any

import numpy as np


class Told:
    """The callbacks of one fit (`sklearn.callback`): a task for the fit and, in it, one for each step.

    As in scikit-learn, a task without a step follows the last one. The coefficients that a step shows are those of the
    iteration; only the end brings the intercepts to their optimum.
    """

    def __init__(self, model: Any, X: np.ndarray, y: np.ndarray, sample_weight: Any):
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.model, self.dtype = model, X.dtype
        self.data: dict[str, Any] = {"X": X, "y": y, "metadata": metadata}
        self.fit = model._init_callback_context(max_subtasks=max(model.max_iter, 1) + 1)
        self.fit.call_on_fit_task_begin(estimator=model, **self.data)
        self.steps = -1
        self.task: Any = None

    def step(self, steps: int, coef: np.ndarray, intercept: np.ndarray) -> None:
        """End the task of one step and begin the next; parts of a fit solved one after another begin anew."""
        if steps <= self.steps:
            return
        kept = self.model._kept(coef[0], intercept[0], self.dtype)
        self._go_on(steps, dict(zip(("coef_", "intercept_"), kept, strict=True)))

    def end(self) -> None:
        """End all tasks at the model's coefficients."""
        if self.model.solver == "lbfgs":
            point = {"coef_": self.model.coef_, "intercept_": self.model.intercept_}
            if self.task is None:
                self._go_on(0, point)
            self._go_on(self.steps + 1, point)
            self.task.call_on_fit_task_end(estimator=self.model)
        self.fit.call_on_fit_task_end(estimator=self.model, **self.data, reconstruction_attributes={})

    def _go_on(self, steps: int, point: dict[str, np.ndarray]) -> None:
        said = {"estimator": self.model, **self.data, "reconstruction_attributes": point}
        if self.task is not None:
            self.task.call_on_fit_task_end(**said)
        self.steps, self.task = steps, self.fit.subcontext(task_name="lbfgs-iter")
        self.task.call_on_fit_task_begin(**said)
