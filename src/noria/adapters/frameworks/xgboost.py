"""XGBoost to ONNX, by onnxmltools: estimators inside scikit-learn pipelines, and bare boosters."""

from __future__ import annotations

from typing import Any


def teach() -> None:
    """Let skl2onnx convert its estimators. Raises ImportError without onnxmltools."""
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes

    made = ((xgboost.XGBClassifier, "XGBoostXGBClassifier"), (xgboost.XGBRegressor, "XGBoostXGBRegressor"))
    classes = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(*made[0], shapes.calculate_linear_classifier_output_shapes, convert_xgboost, options=classes)
    update_registered_converter(*made[1], shapes.calculate_linear_regressor_output_shapes, convert_xgboost)


def convert(booster: Any, width: int, opset: int) -> Any:
    """The graph of a booster that takes one matrix ``input`` [n, width]."""
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    return convert_xgboost(booster, initial_types=[("input", FloatTensorType([None, width]))], target_opset=opset)
