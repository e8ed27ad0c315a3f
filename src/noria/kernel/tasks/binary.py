"""One of two classes. The second is the positive one; an answer is its probability [n]."""

from __future__ import annotations

from noria.kernel.task_definition import BoundsKind, LabelFacts, Metric, Output, TaskDefinition, by_name
from noria.kernel.tasks.requested import CALIBRATION, COST, RANKING


def _suits(label: LabelFacts) -> str | None:
    return f"{label.name} has two values" if label.distinct == 2 and label.may_be_classes else None


_FORMULAS = "noria.stats.metrics"
METRICS = (
    Metric(name="roc_auc", formula=f"{_FORMULAS}:roc_auc", greater_is_better=True, bounds=BoundsKind.AREA, of_ranks=True),
    Metric(
        name="average_precision",
        formula=f"{_FORMULAS}:average_precision",
        greater_is_better=True,
        bounds=BoundsKind.INFLUENCE,
        of_ranks=True,
    ),
    Metric(
        name="brier",
        formula=f"{_FORMULAS}:squared_errors",
        greater_is_better=False,
        bounds=BoundsKind.MEAN,
        per_row=True,
        guard="Quality of a binary model, as labels come in: how much greater a Brier score.",
    ),
    Metric(
        name="log_loss",
        formula=f"{_FORMULAS}:log_losses_of_two",
        greater_is_better=False,
        bounds=BoundsKind.MEAN,
        per_row=True,
        high=None,
    ),
    Metric(
        name="accuracy",
        formula=f"{_FORMULAS}:right_calls",
        greater_is_better=True,
        bounds=BoundsKind.COUNTS,
        per_row=True,
        of_classes=True,
        guard="The same of a class: how much lower an accuracy.",
    ),
    Metric(name="precision", formula=f"{_FORMULAS}:precision", greater_is_better=True, bounds=BoundsKind.COUNTS, of_classes=True),
    Metric(name="recall", formula=f"{_FORMULAS}:recall", greater_is_better=True, bounds=BoundsKind.COUNTS, of_classes=True),
    Metric(name="f1", formula=f"{_FORMULAS}:f1", greater_is_better=True, bounds=BoundsKind.COUNTS, of_classes=True),
)

BINARY = TaskDefinition(
    name="binary",
    metrics=by_name(METRICS),
    on_request=by_name((CALIBRATION, COST, *RANKING)),
    loss="brier",
    always_measured=("roc_auc", "brier", "log_loss", "accuracy"),
    outputs={"prediction": Output.CLASS, "probability": Output.SECOND},
    class_count=2,
    graph_widths=(1, 2),
    suits=_suits,
    gated=("roc_auc", "brier", "log_loss"),
    better_than_guessing=("roc_auc >= 0.5 at 95%", "better than chance, by its lower bound"),
    variance=0.2 * 0.11,  # areas of 0.8 whose errors are nine tenths in common
    by_rarest=True,
    leakage="AUC",
)
