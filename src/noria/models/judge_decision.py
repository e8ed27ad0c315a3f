"""Which rule a classifier's own classes follow: the likeliest class, a threshold, or none that its probabilities tell."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from noria.models.signature import Decision

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
TIE = 1e-9  # probabilities that are closer are a tie, which arithmetic decides
CHANCE = 0.01  # that a round number lies in the gap, and is not the threshold
DIGITS = 4  # of a round number


def likeliest(probabilities: Floats) -> Places:
    """The places [n] of the classes that answers [n, k] are called without a rule: the first of the likeliest; of two, the second
    from 0.5 on."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= 0.5).astype(np.intp)
    found: Places = probabilities.argmax(axis=1)
    return found


def decided_classes(decision: Decision | None, probabilities: Floats) -> Places:
    """The same by a rule that needs no model: see ``Decision``."""
    if decision is None or decision.threshold is None:
        return likeliest(probabilities)
    return (probabilities[:, 1] >= decision.threshold).astype(np.intp)


def rule_of(probabilities: Floats, own: Places, hints: Iterable[float] = ()) -> Decision | None:
    """How ``own`` [n], what the model's ``predict`` says, follows from its probabilities [n, k]; None: as usual.

    ``hints``: thresholds that the model names; the first that fits is it. A threshold that nobody names is found where the rows
    leave so small a gap for it that a round number in it is hardly there by chance. Else it is the model that decides.
    """
    sure = _margin(probabilities) > TIE
    if bool((likeliest(probabilities) == own)[sure].all()):
        return _of_ties(probabilities, own, sure)
    if probabilities.shape[1] != 2:
        return Decision()
    second = probabilities[:, 1]
    below, above = float(second[own == 0].max(initial=-math.inf)), float(second[own == 1].min(initial=math.inf))
    if below >= above:
        return Decision()
    fitting = next((hint for hint in hints if below < hint <= above), None)
    found = fitting if fitting is not None else _round(below, above)
    return Decision(found)


def follows(decision: Decision | None, probabilities: Floats, own: Places, near: float) -> bool:
    """Whether the rule gives the model's own classes, but where a probability is ``near`` the boundary."""
    if decision is not None and decision.threshold is not None:
        sure = np.abs(probabilities[:, 1] - decision.threshold) > near
    else:
        sure = _margin(probabilities) > near
    return bool((decided_classes(decision, probabilities) == own)[sure].all())


def _margin(probabilities: Floats) -> Floats:
    """How far [n] the likeliest class is ahead of the next."""
    ordered = np.sort(probabilities, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def _of_ties(probabilities: Floats, own: Places, sure: NDArray[np.bool_]) -> Decision | None:
    """Of two classes a tie is the second, unless the model says that each exact one is the first."""
    ties = own[~sure & (probabilities[:, 1] == 0.5)] if probabilities.shape[1] == 2 else own[:0]
    return Decision(math.nextafter(0.5, 1.0)) if len(ties) and not ties.any() else None


def _round(below: float, above: float) -> float | None:
    """The roundest number in (below, above], if it is not there by chance."""
    if math.isinf(below) or math.isinf(above):
        return None
    for digits in range(1, DIGITS + 1):
        scale = 10.0**digits
        candidate = math.floor(above * scale) / scale
        if below < candidate <= above:
            return candidate if (above - below) * scale <= CHANCE else None
    return None
