"""Evidence that may be looked at any time: two e-processes for a canary, one against each hypothesis.

An e-process starts at 1 and, under its null hypothesis, is expected not to grow, however often and whenever one looks
(Ville 1939; Ramdas, Gruenwald, Vovk and Shafer, Statistical Science 2023). So it ever reaches 1/alpha with probability at
most alpha. Logarithms throughout: evidence 200 is ``log(200)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from noria.stats.metrics import Floats

# How many times the candidate's odds of an event exceed the champion's: all taken as equally likely beforehand. The smallest
# finds what is worse by a fortieth or more, if there are requests enough; below that the evidence shrinks.
ODDS_RATIOS = np.array([1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 24.0, 64.0])
# Share of the largest stake that can be bet, and the part of the capital that bets so. Large stakes win fastest while
# nothing goes wrong; small ones survive when both releases fail now and then, or the champion has a small share of traffic.
STAKES = np.array([0.95, 0.6, 0.3, 0.15, 0.07, 0.03, 0.012, 0.005, 0.002])
CAPITAL = np.array([0.5, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02])


class Outcomes(NamedTuple):
    """What came in between two looks, while the candidate was given ``share`` of the requests by chance.

    ``paired``: a request counts for both releases, of which one answered and the other scored. Then events are those that one
    release alone had, and requests that both failed are left out of all counts: they tell nothing of one against the other.
    """

    share: float  # in (0, 1); of pairs, the chance that an event is the candidate's when it is no worse
    champion_events: int
    candidate_requests: int
    candidate_events: int
    paired: bool = False


def harm_log_evidence(blocks: Sequence[tuple[float, int, int]]) -> float:
    """Log e-value against "the candidate is no worse than the champion"; 0 without events.

    Each block is (share, champion's events, candidate's events): errors, or slow answers, between two looks while ``share``
    of requests was assigned to the candidate.

    Given that an event happened, it is the candidate's with probability at most ``share`` under the null; with odds r times
    as high it is r share / (1 + share (r - 1)). The product of these likelihood ratios over events, averaged over r in
    ODDS_RATIOS, is an e-process: for every p <= share each factor is expected to be at most 1. Requests need not be
    counted, and traffic may come in bursts or change its rate of events with time.

    Source: Lindon and Malek, Anytime-Valid Inference for Multinomial Count Data (NeurIPS 2022), with a discrete mixture.
    """
    if not blocks:
        return 0.0
    share, champion, candidate = np.array(blocks, dtype=np.float64).T
    return float(harm_path(share, champion, candidate)[-1])


def harm_path(share: ArrayLike, champion: ArrayLike, candidate: ArrayLike) -> Floats:
    """The log e-value after each block: [..., blocks] from arrays of that shape; leading axes are separate rollouts.

    Its running maximum is allowed as evidence too: Ville's inequality is about the whole path.
    """
    shares = np.asarray(share, dtype=np.float64)[..., None]
    theirs, own = np.asarray(champion, dtype=np.float64)[..., None], np.asarray(candidate, dtype=np.float64)[..., None]
    spread = np.log1p(shares * (ODDS_RATIOS - 1))
    steps = own * (np.log(ODDS_RATIOS) - spread) - theirs * spread
    return _mixture(np.cumsum(steps, axis=-2), np.full(len(ODDS_RATIOS), 1 / len(ODDS_RATIOS)))


def _mixture(log_values: Floats, weights: Floats) -> Floats:
    """log(sum of weights * exp(log_values)) over the last axis."""
    top = log_values.max(axis=-1, keepdims=True)
    result: Floats = np.log((weights * np.exp(log_values - top)).sum(axis=-1)) + top[..., 0]
    return result


def safe_log_evidence(blocks: Sequence[Outcomes], margin: float) -> float:
    """Log e-value against "the candidate fails at least ``margin`` more of what the champion answers"; 0 without requests.

    With x and y of 0 or 1 for whether the champion and the candidate would fail a request, the hypothesis is that in the mean,
    given all before, y is at least ``margin + (1 - margin) x``: where the champion fails nothing is learned, whatever the
    candidate does, and a rate that is larger by ``margin`` is such a harm too. The capital bets against it by weighting each
    outcome with the inverse of the chance that it was seen: with a stake s below 1 / (1 - margin), a request of the
    candidate multiplies it by 1 + s (margin - y), and one of the champion by 1 + s (1 - margin) x share / (1 - share).
    Given both x and y this is expected to be 1 + s share (margin + (1 - margin) x - y): at most 1 in the mean, whatever the
    rates do with time, in outages that both releases share, and whenever a block ends. All that it takes is that requests
    are assigned by chance. Of a pair, the one with an event of the champion's alone multiplies it by
    1 + s (margin + (1 - margin) share / (1 - share)). Averaged over the fractions STAKES of the largest stake, with CAPITAL.

    ``margin`` lies in [0, 1), ValueError otherwise.

    Source: Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting (JRSS-B 2023, section 4.1), on
    outcomes weighted as in Horvitz and Thompson (JASA 1952, eq. 8), one request at a time as in Waudby-Smith, Wu, Ramdas,
    Karampatziakis and Mineiro, Anytime-Valid Off-Policy Inference for Contextual Bandits (2022).
    """
    return float(safe_path(*zip(*blocks, strict=True), margin=margin)[-1]) if blocks else 0.0


def safe_path(
    share: ArrayLike,
    champion_events: ArrayLike,
    candidate_requests: ArrayLike,
    candidate_events: ArrayLike,
    paired: ArrayLike = False,
    *,
    margin: float,
) -> Floats:
    """The log e-value after each block: [..., blocks] from arrays of that shape, as ``safe_log_evidence`` has them."""
    if not 0 <= margin < 1:
        raise ValueError(f"the margin is a share of requests, at least 0 and below 1: {margin}")
    shares, both = np.asarray(share, dtype=np.float64)[..., None], np.asarray(paired, dtype=bool)[..., None]
    theirs, own = (np.asarray(events, dtype=np.float64)[..., None] for events in (champion_events, candidate_events))
    calm = np.asarray(candidate_requests, dtype=np.float64)[..., None] - own - np.where(both, theirs, 0.0)
    stakes = STAKES / (1 - margin)
    weight = (1 - margin) * shares / (1 - shares)
    growth = np.maximum(calm, 0.0) * np.log1p(stakes * margin)  # a count may be read while it is being written
    growth = growth + own * np.log1p(stakes * (margin - 1))
    growth = growth + theirs * np.log1p(stakes * (weight + np.where(both, margin, 0.0)))
    return _mixture(np.cumsum(growth, axis=-2), CAPITAL)


def requests_needed(margin: float, missed: float) -> int:
    """Requests of a flawless candidate, beside a flawless champion, until the evidence for safety reaches 1/missed.

    Raises ValueError unless both lie between 0 and 1: a margin of 0 is never shown.
    """
    if not (0 < margin < 1 and 0 < missed < 1):
        raise ValueError(f"the margin and the missed share lie between 0 and 1: {margin}, {missed}")
    enough, needed = math.log(1 / missed), 1
    while _flawless(needed, margin) < enough:
        needed *= 2
    low, high = needed // 2, needed
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _flawless(middle, margin) >= enough else (middle, high)
    return high


def _flawless(requests: int, margin: float) -> float:
    return float(_mixture(requests * np.log1p(STAKES / (1 - margin) * margin), CAPITAL))
