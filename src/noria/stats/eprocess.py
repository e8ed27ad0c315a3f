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
from numpy.typing import ArrayLike, NDArray

from noria.stats.metrics import Floats

# How many times the candidate's odds of an event exceed the champion's: all taken as equally likely beforehand.
ODDS_RATIOS = np.array([1.25, 1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 24.0, 64.0])
# Share of the largest stake that can be bet, and the part of the capital that bets so. Large stakes win fastest while
# nothing goes wrong; small ones survive when both releases fail now and then.
STAKES = np.array([0.95, 0.65, 0.4, 0.2, 0.08])
CAPITAL = np.array([0.5, 0.15, 0.15, 0.12, 0.08])


class Outcomes(NamedTuple):
    """Requests and events of both releases between two looks."""

    champion_requests: int
    champion_events: int
    candidate_requests: int
    candidate_events: int


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


def safe_log_evidence(blocks: Sequence[tuple[int, int, int, int]], margin: float, seed: int) -> float:
    """Log e-value against "the candidate's rate of events is worse than the champion's by at least ``margin``".

    Each block is (champion's requests, its events, candidate's requests, its events); more events than requests count as
    one each. ``margin`` lies in [0, 1), ValueError otherwise; ``seed`` is at least 0 and the same at every look.

    Each outcome of the candidate is paired with the mean of a group of the champion's outcomes of its block, groups being
    disjoint: D = X_candidate - mean(X_champion), in [-1, 1]. The capital grows by 1 + stake (margin - D) per pair, averaged
    over the fractions STAKES of the largest stake 1 / (1 - margin), with the weights CAPITAL. Where a block has fewer
    outcomes of the champion than of the candidate, the missing ones count as 0: that only lowers the evidence.

    Only counts are known. The champion's events are put at random places (from ``seed`` and the block's index, so an earlier
    block never changes), which is valid: given the candidate's outcomes, the groups are independent of them and each mean is
    expected to be the champion's rate, so the expected capital is a product over the candidate's outcomes in which their
    order does not matter, and which is expected not to grow under the null. It needs a rate that is constant within a block
    and blocks that do not end because of what happened to the champion.

    Source: Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by Betting (JRSS-B 2023, section 4).
    """
    return float(safe_path(blocks, margin, seed)[-1]) if blocks else 0.0


def safe_path(blocks: Sequence[tuple[int, int, int, int]], margin: float, seed: int) -> Floats:
    """The log e-value after each block [blocks]: what ``safe_log_evidence`` gives for the blocks up to it."""
    if not 0 <= margin < 1:
        raise ValueError(f"the margin is a share of requests, at least 0 and below 1: {margin}")
    growth = _growth_alone(np.reshape(np.asarray(blocks, dtype=np.float64), (-1, 4)), margin)
    for i, block in enumerate(blocks):
        if block[0] > 0 < block[1] and block[2] > 0:  # else chance has no say in it
            growth[i] = _growth(Outcomes(*block), margin, np.random.default_rng([seed, i]))
    return _mixture(np.cumsum(growth, axis=0), CAPITAL)


def _growth_alone(blocks: Floats, margin: float) -> Floats:
    """The log growth under each stake [blocks, stakes], as if the champion never failed: most blocks are so."""
    pairs = np.maximum(blocks[:, 2], 0)
    failed = np.minimum(blocks[:, 3], pairs)
    stakes = STAKES / (1 - margin)
    return np.outer(failed, np.log1p(stakes * (margin - 1))) + np.outer(pairs - failed, np.log1p(stakes * margin))


def _growth(block: Outcomes, margin: float, rng: np.random.Generator) -> Floats:
    """The log growth of the capital under each stake [stakes]. The candidate's events sit in the first pairs."""
    pairs = block.candidate_requests
    failed = min(block.candidate_events, pairs)
    groups, rates = _hit_groups(block, rng)
    own = groups < failed
    # Nearly all pairs are alike: those without an event of the champion are counted, not listed.
    values = np.concatenate([own - rates, [1.0, 0.0]])
    counts = np.concatenate([np.ones(len(groups)), [failed - own.sum(), pairs - failed - (~own).sum()]])
    result: Floats = np.log1p(STAKES[:, None] / (1 - margin) * (margin - values)) @ counts
    return result


def _hit_groups(block: Outcomes, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """The groups that hold an event of the champion, and its rate in each. Outcomes are dealt to the pairs like cards."""
    pairs, outcomes = block.candidate_requests, block.champion_requests
    places = rng.choice(outcomes, min(block.champion_events, outcomes), replace=False, shuffle=False)
    groups, hits = np.unique(places % pairs, return_counts=True)
    sizes = outcomes // pairs + (groups < outcomes % pairs)
    return groups, hits / sizes


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
