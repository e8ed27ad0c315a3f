"""LightGBM to ONNX, by onnxmltools: estimators inside scikit-learn pipelines, and bare boosters."""

from __future__ import annotations

from typing import Any


def teach() -> None:
    """Let skl2onnx convert its estimators. Raises ImportError without onnxmltools."""
    import lightgbm
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes

    made = ((lightgbm.LGBMClassifier, "LightGbmLGBMClassifier"), (lightgbm.LGBMRegressor, "LightGbmLGBMRegressor"))
    classes = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(*made[0], shapes.calculate_linear_classifier_output_shapes, convert_lightgbm, options=classes)
    update_registered_converter(
        *made[1], shapes.calculate_linear_regressor_output_shapes, convert_lightgbm, options={"split": None}
    )


def convert(booster: Any, width: int, opset: int) -> Any:
    """The graph of a booster that takes one matrix ``input`` [n, width]."""
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    kinds = [("input", FloatTensorType([None, width]))]
    return convert_lightgbm(booster, initial_types=kinds, target_opset=opset, zipmap=False)
