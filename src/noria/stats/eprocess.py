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
    counts = np.reshape(np.asarray(blocks, dtype=np.int64), (-1, 4))
    stakes, growth = STAKES / (1 - margin), _growth_alone(counts, margin)
    where, groups, hits = _dealt(counts, seed)
    old, pairs, failed = counts[where, 0], counts[where, 2], counts[where, 3]
    rates = hits / (old // pairs + (groups < old % pairs))
    own = (groups < failed).astype(np.float64)  # the candidate's events sit in the first pairs
    calm = np.log1p(np.outer(margin - own, stakes))
    np.add.at(growth, where, np.log1p(np.outer(margin - own + rates, stakes)) - calm)
    return _mixture(np.cumsum(growth, axis=0), CAPITAL)


def _growth_alone(counts: NDArray[np.int64], margin: float) -> Floats:
    """The log growth under each stake [blocks, stakes], as if the champion never failed: most pairs are so."""
    pairs = np.maximum(counts[:, 2], 0)
    failed = np.minimum(counts[:, 3], pairs)
    stakes = STAKES / (1 - margin)
    return np.outer(failed, np.log1p(stakes * (margin - 1))) + np.outer(pairs - failed, np.log1p(stakes * margin))


def _dealt(counts: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pairs that hold events of the champion: in which block, which pair of it, and how many events [hits] each.

    Outcomes are dealt to the pairs like cards, by lots of the seed and the block's index.
    """
    old, events, pairs = counts[:, 0], np.minimum(counts[:, 1], counts[:, 0]), counts[:, 2]
    touched = (events > 0) & (pairs > 0)  # elsewhere chance has no say
    once = np.flatnonzero(touched & (events == 1))
    found = [(once, (_lots(seed, once) * old[once]).astype(np.int64) % pairs[once], np.ones_like(once))]
    for i in np.flatnonzero(touched & (events > 1)).tolist():
        places = np.random.default_rng([seed, i]).choice(old[i], events[i], replace=False, shuffle=False)
        groups, hits = np.unique(places % pairs[i], return_counts=True)
        found.append((np.full(len(groups), i), groups, hits))
    where, groups, hits = (np.concatenate(column) for column in zip(*found, strict=True))
    return where, groups, hits


def _lots(seed: int, index: NDArray[np.int64]) -> Floats:
    """A lot in [0, 1) for each index, many at once: a generator for each would cost more than all the rest.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (OOPSLA 2014), SplitMix64.
    """
    key = _mixed(np.array([seed % 2**64], dtype=np.uint64))  # seeds that follow each other must not share their lots
    state = _mixed(key + (index.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    result: Floats = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return result


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return result


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
