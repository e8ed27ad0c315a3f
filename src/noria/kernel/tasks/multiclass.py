"""One of several classes. An answer is the probability of each [n, k], in the order of the signature."""

from __future__ import annotations

from noria.kernel.task_definition import BoundsKind, LabelFacts, Metric, Output, TaskDefinition, by_name
from noria.kernel.tasks.requested import CALIBRATION
from noria.kernel.words import plural

CLASSES_MOST = 20  # a label with more values is no class, where nobody says it


def _suits(label: LabelFacts) -> str | None:
    if label.distinct > CLASSES_MOST or not label.may_be_classes:
        return None
    return f"{label.name} has {plural(label.distinct, 'value')}; if it is an amount, write regression"


METRICS = (
    Metric(
        name="accuracy",
        formula="noria.stats.metrics:right_calls",
        greater_is_better=True,
        bounds=BoundsKind.COUNTS,
        per_row=True,
        of_classes=True,
        guard="The same of a class: how much lower an accuracy.",
    ),
    Metric(
        name="log_loss",
        formula="noria.stats.metrics:log_losses_of_several",
        greater_is_better=False,
        bounds=BoundsKind.MEAN,
        per_row=True,
        high=None,
    ),
    Metric(
        name="f1_macro",
        formula="noria.stats.metrics:f1_macro",
        greater_is_better=True,
        bounds=BoundsKind.COUNTS,
        of_classes=True,
    ),
)

MULTICLASS = TaskDefinition(
    name="multiclass",
    metrics=by_name(METRICS),
    on_request=by_name((CALIBRATION,)),
    loss="log_loss",
    always_measured=("accuracy", "log_loss"),
    outputs={"prediction": Output.CLASS, "probabilities": Output.EACH},
    class_count=None,
    takes_new_classes=True,
    suits=_suits,
    gated=("accuracy", "log_loss"),
    better_than_guessing=("accuracy >= {commonest:g} at 95%", "better than always saying the commonest class"),
    variance=0.05,  # calls of which one in 20 differs
    leakage="AUC",
)
