"""The judges of a search: which trial need not go on, which is best, and what is wrong when none is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, median
from typing import Any

import msgspec

from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import plural

STARTUP = 5  # trials that must have gone to their end before any is pruned
HOPELESS = 6  # when the first so many have all failed, and no algorithm was left out, the others are not tried
_NUMBER = re.compile(r"[0-9.]+")


class TrialState(StrEnum):
    DONE = "done"  # all of its folds were fitted and scored
    PRUNED = "pruned"  # given up between two folds
    FAILED = "failed"  # a fold failed


class Trial(msgspec.Struct, frozen=True):
    """A trial that ended. ``means``: after each fold, the mean of the metric over the folds so far."""

    number: int
    algorithm: str
    params: dict[str, Any]
    state: TrialState
    means: tuple[float, ...] = ()
    reason: str = ""

    @property
    def value(self) -> float:
        return self.means[-1]


def running_means(values: Sequence[float]) -> tuple[float, ...]:
    """[k] values of folds -> [k] means of the first, the first two, ..."""
    return tuple(fmean(values[: i + 1]) for i in range(len(values)))


def prune(mine: Sequence[float], others: Sequence[Trial], metric: str, *, higher_is_better: bool) -> Reason | None:
    """A reason to give a trial up after the folds it has had, or None.

    The median rule: its mean so far is worse than the median, over the trials that went to their end, of their means after as
    many folds; at least ``STARTUP`` of them are needed. Source: Golovin et al. (Google Vizier, KDD 2017, section 3.2.2), with the
    trial's mean where they take its best value: folds are not epochs, a later one is not nearer to the end of a training.
    """
    fold = len(mine) - 1
    reached = [other.means[fold] for other in others if other.state is TrialState.DONE and len(other.means) > fold]
    if len(reached) < STARTUP:
        return None
    middle = median(reached)
    worse = mine[fold] < middle if higher_is_better else mine[fold] > middle
    if not worse:
        return None
    after = f"after {plural(len(mine), 'fold')}"
    text = f"pruned {after}: {metric} {mine[fold]:.4g} is worse than {middle:.4g}, the median of {plural(len(reached), 'trial')}"
    return Reason("search.pruned", text)


def best(trials: Sequence[Trial], *, higher_is_better: bool) -> Trial | None:
    """The best of the trials that went to their end, the earliest of equals; None when there is none."""
    done = [trial for trial in trials if trial.state is TrialState.DONE]
    if not done:
        return None
    return min(done, key=lambda t: (-t.value if higher_is_better else t.value, t.number))


def hopeless(trials: Sequence[Trial], algorithms: int) -> bool:
    """Whether enough trials were told, and all of them failed."""
    return len(trials) >= max(HOPELESS, algorithms) and all(trial.state is TrialState.FAILED for trial in trials)


def why_none(trials: Sequence[Trial]) -> Reason:
    """Why no trial went to its end: the commonest reason."""
    if not trials:
        return Reason("search.no_trial", "no trial ended within the search's timeout", Outcome.FAIL)
    common, count = Counter(_kind(trial) for trial in trials).most_common(1)[0]
    whole = next(trial for trial in trials if _kind(trial) == common)
    alike = "" if count == len(trials) else f", {count} of them the same way"
    every = "the only trial" if len(trials) == 1 else f"all {len(trials)} trials"
    return Reason("search.failed", f"{every} failed{alike}: {whole.reason}", Outcome.FAIL)


def _kind(trial: Trial) -> str:
    """A reason without what differs from trial to trial: its numbers, and the end of the log."""
    return _NUMBER.sub("", trial.reason.partition("\n")[0])


def sentence(trials: Sequence[Trial], chosen: Trial, wanted: int, metric: str, several: bool) -> str:
    """What the search came to, for people."""
    counts = Counter(trial.state for trial in trials)
    kinds = ", ".join(f"{counts[state]} {state}" for state in (TrialState.PRUNED, TrialState.FAILED) if counts[state])
    of = f"{plural(len(trials), 'trial')} ({kinds})" if kinds else f"{plural(len(trials), 'trial')}"
    which = f"trial {chosen.number + 1}, {chosen.algorithm}," if several else f"trial {chosen.number + 1}"
    short = "" if len(trials) >= wanted else f"; stopped by its timeout, {wanted} were requested"
    return f"{which} is the best of {of}: {metric} {chosen.value:.4g} on validation rows{short}"
