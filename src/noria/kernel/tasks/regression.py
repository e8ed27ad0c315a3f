"""A number a row [n]."""

from __future__ import annotations

from noria.kernel.task_definition import BoundsKind, LabelFacts, Metric, Output, TaskDefinition, by_name
from noria.kernel.tasks.requested import FORECASTS, RANKING
from noria.kernel.words import plural


def _suits(label: LabelFacts) -> str | None:
    return f"{label.name} is a number with {plural(label.distinct, 'value')}" if label.is_number else None


METRICS = (
    Metric(
        name="mae",
        formula="noria.stats.metrics:absolute_errors",
        greater_is_better=False,
        bounds=BoundsKind.ERRORS,
        per_row=True,
        high=None,
        guard="The same of a number: how much greater a mean absolute error.",
    ),
    Metric(name="rmse", formula="noria.stats.metrics:rmse", greater_is_better=False, bounds=BoundsKind.ERRORS, high=None),
    Metric(name="r2", formula="noria.stats.metrics:r2", greater_is_better=True, bounds=BoundsKind.ERRORS),
)

REGRESSION = TaskDefinition(
    name="regression",
    metrics=by_name(METRICS),
    on_request=by_name((*FORECASTS, *RANKING)),
    loss="mae",
    always_measured=("mae", "rmse", "r2"),
    outputs={"prediction": Output.VALUE},
    graph_widths=(1,),
    suits=_suits,
    gated=("mae", "rmse"),
    better_than_guessing=("r2 >= 0 at 95%", "better than always saying the mean, by its lower bound"),
    variance=0.33**2,  # errors whose differences are a third of them
    leakage="R2",
)
