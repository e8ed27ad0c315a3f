"""XGBoost to ONNX, by onnxmltools: estimators inside scikit-learn pipelines, and bare boosters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def teach() -> None:
    """Let skl2onnx convert its estimators. Raises ImportError without onnxmltools."""
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes

    made = ((xgboost.XGBClassifier, "XGBoostXGBClassifier"), (xgboost.XGBRegressor, "XGBoostXGBRegressor"))
    classes = {"nocl": [True, False], "zipmap": [True, False, "columns"]}

    def convert_numbered(scope: Any, operator: Any, container: Any) -> None:
        with hide_names(operator.raw_operator.get_booster()):
            convert_xgboost(scope, operator, container)

    update_registered_converter(*made[0], shapes.calculate_linear_classifier_output_shapes, convert_numbered, options=classes)
    update_registered_converter(*made[1], shapes.calculate_linear_regressor_output_shapes, convert_numbered)


def convert(booster: Any, width: int, opset: int) -> Any:
    """The graph of a booster that takes one matrix ``input`` [n, width]."""
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    with hide_names(booster):
        return convert_xgboost(booster, initial_types=[("input", FloatTensorType([None, width]))], target_opset=opset)


@contextmanager
def hide_names(booster: Any) -> Iterator[None]:
    """The booster without the names of its columns, for a while: the converter knows columns by their places alone."""
    kept = booster.feature_names
    booster.feature_names = None
    try:
        yield
    finally:
        booster.feature_names = kept
