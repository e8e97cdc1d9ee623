"""A linear model as an ONNX graph: one product, then softmax or the shares of sigmoids."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from papershell.kernels.files import replacing
from papershell.trainers.linear_model import LinearModel

Node = tuple[str, list[str], list[str], dict[str, Any]]  # operator, inputs, outputs, attributes
OPSET, IR_VERSION = 17, 8  # of ONNX 1.12 (2022), which every runtime in use reads


def write_onnx(path: str | os.PathLike[str], model: LinearModel) -> None:
    """Write ``model`` to an .onnx file, whole or not at all.

    The graph takes ``X``, (N, P) float32, of which pixels count as 0 to 1, as in the .pkl. It gives ``label``, (N,)
    int64 or strings, and ``probabilities``, (N, K) float64. It computes in float64, as `LinearModel` does: products in
    float32 would differ from it by more than 1e-6 if features are many.

    Raises
    ------
    ModuleNotFoundError
        ``onnx`` is absent.
    OSError
        The file cannot be written.
    """
    from onnx import checker

    graph = _graph(model)
    checker.check_model(graph, full_check=True)
    with replacing(path, parents=True) as file:
        file.write(graph.SerializeToString())


def _graph(model: LinearModel) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    K, P = model.coef.shape
    text = model.classes.dtype.kind == "U"
    classes = np.array(model.classes.tolist(), dtype=object if text else np.int64)
    constants = {"weights": model.coef.T.copy(), "intercept": model.intercept, "classes": classes}
    chances: list[Node] = [("Softmax", ["scores"], ["probabilities"], {"axis": 1})]
    if model.loss == "ovr":
        chances = [
            ("Sigmoid", ["scores"], ["apart"], {}),
            ("ReduceL1", ["apart"], ["total"], {"axes": [1]}),
            ("Div", ["apart", "total"], ["probabilities"], {}),
        ]
    nodes: list[Node] = [
        ("Cast", ["X"], ["wide"], {"to": TensorProto.DOUBLE}),
        ("Gemm", ["wide", "weights", "intercept"], ["scores"], {}),
        *chances,
        ("ArgMax", ["scores"], ["index"], {"axis": 1, "keepdims": 0}),
        ("Gather", ["classes", "index"], ["label"], {}),
    ]
    label = TensorProto.STRING if text else TensorProto.INT64
    graph = helper.make_graph(
        [helper.make_node(kind, given, made, **settings) for kind, given, made, settings in nodes],
        "logistic regression",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", P])],
        [
            helper.make_tensor_value_info("label", label, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, ["N", K]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, producer_name="papershell", opset_imports=opset, ir_version=IR_VERSION)
