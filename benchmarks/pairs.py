"""Errors that are not counted as an ordinary canary's: on pairs, on probation, and by the first request of a key.

Requests are made up, counted as the server counts them (`noria.serving`), and judged with a look after each event. Only the guard
on errors is played out: it may be wrong with its part of the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noria.delivery import judge_guards
from noria.stats import eprocess

FALSE_ALARM, GUARDS = 0.01, 2
NEEDED = math.log(GUARDS / FALSE_ALARM)
HALF = 0.5  # the candidate's share of what one of two that score the same fails

Flags = NDArray[np.bool_]
Events = tuple[NDArray[np.float64], Flags, Flags]  # the candidate's share when each came, whether the champion's, the candidate's
Play = Callable[[np.random.Generator], Events]


@dataclass(frozen=True, slots=True)
class Failing:
    """Shares of requests."""

    old: float
    new: float
    both: float = 0.0  # that no release answers

    def of(self, rng: np.random.Generator, n: int) -> tuple[Flags, Flags]:
        hostile = rng.random(n) < self.both
        return hostile | (rng.random(n) < self.old), hostile | (rng.random(n) < self.new)


def shadowed(rng: np.random.Generator, failing: Failing, n: int) -> Events:
    """A shadow step: n requests that both score; a failure counts for the one that failed, and not where both do."""
    old, new = failing.of(rng, n)
    at = old != new
    return np.full(at.sum(), HALF), old[at], new[at]


def probation(rng: np.random.Generator, failing: Failing, n: int, drawn: float, dropped: float = 0.0) -> Events:
    """Of the new release each failure counts that the old one made good; of the old one, those on pairs that the new answered.

    ``drawn``: share of requests for pairs, of which the share ``dropped`` is never scored.
    """
    old, new = failing.of(rng, n)
    scored = ~new & (rng.random(n) < drawn) & (rng.random(n) >= dropped)
    own, theirs = new & ~old, scored & old
    at = np.flatnonzero(own | theirs)
    answered, pairs = (np.arange(1, n + 1) - np.cumsum(own))[at], np.cumsum(scored)[at]
    shares = [judge_guards.share_on_probation(drawn, a, p) for a, p in zip(answered.tolist(), pairs.tolist(), strict=True)]
    return np.array(shares), theirs[at], own[at]


def sticky(
    rng: np.random.Generator, share: float, n: int, users: int, rate: float = 0.02, buckets: int = 65_536, *, once: bool = True
) -> Events:
    """Requests of users of whom some come often (the k-th 1/k as often as the first), and some, whatever answers, always fail.

    A user goes where the bucket goes that the key falls into; ``once``: the first request of a bucket counts alone.
    """
    often = 1 / np.arange(1, users + 1)
    whose = rng.choice(users, n, p=often / often.sum())
    places, fails = rng.integers(0, buckets, users)[whose], (rng.random(users) < rate)[whose]
    counted = np.ones(n, bool)
    if once:
        counted[:] = False
        counted[np.unique(places, return_index=True)[1]] = True
    at = counted & fails
    own = places[at] < share * buckets
    return np.full(at.sum(), share), ~own, own


def needed(rng: np.random.Generator, failing: Failing, n: int, drawn: float) -> float:
    """Requests on probation until harm is shown; infinite where n do not show it."""
    old, new = failing.of(rng, n)
    scored = ~new & (rng.random(n) < drawn)
    own, theirs = new & ~old, scored & old
    at = np.flatnonzero(own | theirs)
    shown = eprocess.harm_path(np.full(len(at), 1 / (1 + drawn)), theirs[at], own[at]) >= NEEDED
    return float(at[shown.argmax()]) + 1 if shown.any() else math.inf


def blamed(play: Play, rollouts: int, seed: int) -> int:
    """How many of the rollouts the evidence for harm ends."""
    ended = 0
    for i in range(rollouts):
        share, old, new = play(np.random.default_rng([seed, i]))
        judged = (share > 0) & (share < 1)
        if judged.any():
            ended += eprocess.harm_path(share[judged], old[judged], new[judged]).max() >= NEEDED
    return int(ended)
