"""Metrics that are measured where a gate asks for them: most need more than labels and answers."""

from __future__ import annotations

from noria.kernel.task_definition import BoundsKind, Metric

CUTOFFS = (1, 3, 5, 10, 20, 50, 100)  # of ndcg@10 and recall@10
_FORMULAS = "noria.stats.requested"
_ORDERS = "noria.stats.ranking"


def _errors(name: str, needs: str = "") -> Metric:
    return Metric(
        name=name,
        formula=f"{_FORMULAS}:{name}",
        greater_is_better=False,
        bounds=BoundsKind.ERRORS,
        per_row=True,
        high=None,
        needs=needs,
    )


def _ranking(name: str, formula: str) -> Metric:
    return Metric(
        name=name, formula=f"{_ORDERS}:{formula}", greater_is_better=True, bounds=BoundsKind.MEAN, of_ranks=True, needs="query"
    )


FORECASTS = (
    _errors("mape"),
    Metric(
        name="smape",
        formula=f"{_FORMULAS}:smape",
        greater_is_better=False,
        bounds=BoundsKind.MEAN,
        per_row=True,
        high=2.0,
    ),
    _errors("pinball", "quantile"),
    _errors("mase", "season"),
)
CALIBRATION = Metric(
    name="ece", formula="noria.stats.calibration:debiased_ece", greater_is_better=False, bounds=BoundsKind.RESAMPLED
)
COST = Metric(
    name="cost",
    formula=f"{_FORMULAS}:cost",
    greater_is_better=False,
    bounds=BoundsKind.MEAN,
    per_row=True,
    of_classes=True,
    high=None,
    needs="decision.cost",
)
RANKING = (
    _ranking("map", "average_precisions"),
    _ranking("mrr", "reciprocal_ranks"),
    *(_ranking(f"ndcg@{k}", "ndcg") for k in CUTOFFS),
    *(_ranking(f"recall@{k}", "recalls") for k in CUTOFFS),
)
