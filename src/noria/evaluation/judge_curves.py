"""The curves of a candidate, beside the champion's on the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.config import Model
from noria.evaluation.scores import ComparedRelease, Scores
from noria.kernel.task import Task
from noria.stats import curves, metrics
from noria.stats.curve_records import EvaluationCurves, RankCurves, ReleaseCurves

RANKED = 6  # classes of a multiclass model that have curves of their own: the commonest
SHOWN = 12  # classes in the confusion matrix; the rest stand together
OTHERS = "others"


def evaluation_curves(
    model: Model, classes: Sequence[str], labels: NDArray[Any], candidate: Scores, champion: ComparedRelease | None
) -> EvaluationCurves | None:
    """Curves of both on the rows of ``labels`` (as ``label_numbers`` gives them). None where the candidate has no answers."""
    if candidate.predictions is None or not len(labels):
        return None
    task = model.task
    rival = champion.scores if champion is not None and _comparable(candidate, champion.scores) else None
    shown = _shown_classes(classes, labels) if task.definition.has_classes else []
    edges: NDArray[np.float64] = np.empty(0)
    if not task.definition.has_classes:
        edges = curves.residual_edges(labels - candidate.predictions)

    def of(scores: Scores) -> ReleaseCurves:
        assert scores.predictions is not None
        if not task.definition.has_classes:
            return _of_numbers(labels, scores.predictions, edges)
        return _of_classes(task, classes, shown, labels.astype(np.intp), scores)

    return EvaluationCurves(
        task=str(task),
        label=model.label,
        rows=len(labels),
        candidate=of(candidate),
        champion=of(rival) if rival is not None else None,
        champion_name=champion.release.version if champion is not None and rival is not None else None,
        classes=(*(classes[place] for place in shown), *([OTHERS] if len(shown) < len(classes) else [])),
        positives=float((labels == 1).mean()) if task.definition.two_classes else 0.0,
        residual_edges=tuple(float(f"{edge:.5g}") for edge in edges),
    )


def _comparable(candidate: Scores, rival: Scores) -> bool:
    """A release that knows other classes has no curves to lay over these."""
    mine, theirs = candidate.predictions, rival.predictions
    return mine is not None and theirs is not None and mine.shape == theirs.shape


def _shown_classes(classes: Sequence[str], labels: NDArray[Any]) -> list[int]:
    """The places of the commonest classes, in the order of the signature."""
    if len(classes) <= SHOWN:
        return list(range(len(classes)))
    often = Counter(int(label) for label in labels)
    return sorted(sorted(range(len(classes)), key=lambda place: -often[place])[: SHOWN - 1])


def _of_classes(
    task: Task, classes: Sequence[str], shown: Sequence[int], labels: NDArray[np.intp], scores: Scores
) -> ReleaseCurves:
    answers = scores.predictions
    assert answers is not None
    called = scores.called if scores.called is not None else metrics.predicted_classes(answers)
    if task.definition.two_classes:
        ranked = [_ranks(classes[1], labels == 1, answers, called == 1)]
        said, came = answers, (labels == 1).astype(np.float64)
    else:
        often = Counter(int(label) for label in labels)
        wanted = sorted(range(len(classes)), key=lambda place: (-often[place], place))[:RANKED]
        ranked = [_ranks(classes[place], labels == place, answers[:, place], called == place) for place in wanted]
        said, came = answers[np.arange(len(labels)), called], (called == labels).astype(np.float64)
    places = np.full(len(classes), len(shown), dtype=np.intp)
    places[list(shown)] = np.arange(len(shown))
    count = len(shown) + (len(shown) < len(classes))
    counted = curves.confusion(places[labels], places[called], count)
    return ReleaseCurves(
        ranks=tuple(filter(None, ranked)),
        calibration=curves.calibration(came, said, shares=True),
        confusion=tuple(tuple(int(cell) for cell in row) for row in counted),
    )


def _ranks(name: str, positive: NDArray[np.bool_], score: NDArray[np.float64], called: NDArray[np.bool_]) -> RankCurves | None:
    """None where all rows, or none, are of the class: there is nothing to rank."""
    positives, rows = int(positive.sum()), len(positive)
    if not 0 < positives < rows:
        return None
    truth = positive.astype(np.float64)
    false, true = float((called & ~positive).sum() / (rows - positives)), float((called & positive).sum() / positives)
    return RankCurves(
        name,
        positives,
        roc=curves.thinned(*curves.roc(truth, score)),
        precision_recall=curves.thinned(*curves.precision_recall(truth, score)),
        gain=curves.thinned(*curves.gain(truth, score)),
        calls=(float(f"{false:.5g}"), float(f"{true:.5g}")),
    )


def _of_numbers(labels: NDArray[np.float64], answers: NDArray[np.float64], edges: NDArray[np.float64]) -> ReleaseCurves:
    summable = float(labels.min()) >= 0 and float(labels.sum()) > 0
    return ReleaseCurves(
        calibration=curves.calibration(labels, answers, shares=False),
        residuals=curves.residual_bins(labels, answers),
        residual_counts=curves.residual_counts(labels - answers, edges),
        gain=curves.thinned(*curves.gain(labels, answers)) if summable else None,
    )
