"""Simulates rollouts from given rates, judged like live ones: how many requests a decision takes, and how often it is wrong.

A stream is requests with their arrival times and lots each: who is given it, whether it fails, whether it is slow, and whether
the candidate fails where both score; and labels on pairs, which come by themselves. Every rule that is compared sees the same
lots. The judge's rule is that of ``delivery.judge_advance``, looked at after every error, every slow answer and every so many
requests of the candidate, which end a block; ``tests/delivery/test_simulate.py`` holds it against ``advance.judge`` called at
every one of these looks. Pauses and approvals are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from noria.kernel.policy import RolloutPolicy
from noria.stats import betting, eprocess
from noria.stats.metrics import Floats

POLICY = RolloutPolicy()  # what the project file leaves unsaid
FIRST = 4096  # requests that are made up at first; then twice as many, until a rule has decided
MOST = 4_000_000  # requests of one rollout
MINUTE_S = 60.0
PAIR = 0.5  # the candidate's share of outcomes where both score


class SimulatedVerdict(StrEnum):
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    HELD = "held"  # patience ended


class ArmShares(msgspec.Struct, frozen=True):
    """Shares of requests, 0 to 1."""

    errors: float
    slow: float = 0.0


class Scenario(msgspec.Struct, frozen=True):
    """The traffic, and how the two releases do."""

    name: str
    champion: ArmShares
    candidate: ArmShares
    traffic_per_s: float = 20.0
    burst: float = 1.0  # every fifth minute, on average, brings so many times as many requests as the others
    drift: float = (
        1.0  # the champion's rates grow evenly to so many times themselves over the patience, the candidate's by as much
    )
    outage_every_s: float = 0.0  # on average from the beginning of an outage to the next, in which every request fails; 0: none
    outage_s: float = 30.0
    labels_per_s: float = 0.0  # on pairs, where quality is guarded
    loss: float = 0.0  # mean difference of the candidate's loss from the champion's, divided by the guard's bound
    loss_sd: float = 0.1  # of the differences: as a normal distribution cut to [-1, 1] gives them


class DecisionRule(msgspec.Struct, frozen=True):
    """The settings of a rollout's judge, in plain numbers."""

    shares: tuple[float, ...]  # of the canary steps below full traffic
    errors: float = POLICY.guards.errors
    slow: float = POLICY.guards.slow_by
    false_alarm: float = POLICY.false_alarm
    missed: float = POLICY.missed
    patience_s: float = POLICY.patience_s
    guards: int = 2  # that share false_alarm
    look_requests: int = 20  # of the candidate, without an event
    shadow: float = 0.0  # the share of requests that both score in a step before the canary's; 0: there is none
    quality: float = 0.0  # a greater mean loss that is too much, divided by its bound; 0: not guarded
    failing: float = POLICY.guards.failing  # share of its requests that a candidate may fail and still go on

    @property
    def harm_needed(self) -> float:
        """Log evidence."""
        return math.log(self.guards / self.false_alarm)

    def safe_needed(self, step: int) -> float:
        """Log evidence."""
        return math.log(1 / self.missed) * (step + 1) / len(self.steps)

    @property
    def steps(self) -> tuple[float, ...]:
        """Shares of traffic, that of the shadow step first."""
        return (self.shadow, *self.shares) if self.shadow else self.shares

    def is_paired(self, step: int) -> bool:
        return self.shadow > 0 and step == 0


class SimulatedDecision(msgspec.Struct, frozen=True):
    verdict: SimulatedVerdict
    requests: int  # of both releases
    canary: int  # of the candidate, which it answered or scored
    seconds: float


class Spread(msgspec.Struct, frozen=True):
    """Of rollouts that were decided; of all, when none was."""

    median: float
    p90: float


class SimulationResult(msgspec.Struct, frozen=True):
    """The results of a rule on a scenario's rollouts."""

    rule: str
    scenario: str
    rollouts: int
    promoted: int
    rolled_back: int
    held: int
    requests: Spread
    canary: Spread
    seconds: Spread


class Stream(msgspec.Struct):
    """Requests of one rollout, made up as far as somebody asked; the same from the same seed, whoever asks."""

    scenario: Scenario
    end_s: float  # nothing is looked at after it
    seed: tuple[int, ...]
    times: Floats = msgspec.field(default_factory=lambda: np.zeros(0))
    lots: Floats = msgspec.field(default_factory=lambda: np.zeros((4, 0)))  # whose, failed, slow, the candidate's of a pair
    labels: Floats = msgspec.field(default_factory=lambda: np.zeros((2, 0)))  # when each comes, and the difference of losses
    rngs: list[np.random.Generator] = []
    busy: Floats = msgspec.field(default_factory=lambda: np.ones(1))  # by minute
    work: Floats = msgspec.field(default_factory=lambda: np.zeros(0))  # when each request would come if every minute were alike
    outages: Floats = msgspec.field(default_factory=lambda: np.zeros(0))  # when each begins

    def __post_init__(self) -> None:
        self.rngs = [np.random.default_rng([*self.seed, i]) for i in range(9)]
        minutes = int(self.end_s // MINUTE_S) + 2
        busy = np.where(self.rngs[4].random(minutes) < 0.2, self.scenario.burst, 1.0)
        self.busy = busy / (0.8 + 0.2 * self.scenario.burst)  # mean traffic stays as it is
        if self.scenario.outage_every_s > 0:
            most = int(4 * self.end_s / self.scenario.outage_every_s) + 20
            self.outages = np.cumsum(self.rngs[8].exponential(self.scenario.outage_every_s, most))

    def __len__(self) -> int:
        return len(self.times)

    @property
    def is_over(self) -> bool:
        return len(self) >= MOST or (len(self) > 0 and bool(self.times[-1] > self.end_s))

    def grow(self) -> None:
        """Twice as many requests."""
        more = min(max(FIRST, len(self)), MOST)
        gaps = self.rngs[3].exponential(1 / self.scenario.traffic_per_s, more)
        # Work time runs evenly; on the clock it is squeezed into the busy minutes.
        self.work = np.concatenate([self.work, self.work[-1] + np.cumsum(gaps)]) if len(self) else np.cumsum(gaps)
        done = np.concatenate([[0.0], np.cumsum(self.busy * MINUTE_S)])
        self.times = np.interp(self.work, done, np.arange(len(done)) * MINUTE_S, right=math.inf)
        self.lots = np.concatenate([self.lots, [rng.random(more) for rng in (*self.rngs[:3], self.rngs[5])]], axis=1)

    def outcomes(
        self, start: int, share: float, end: int | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether requests from ``start`` to ``end`` are the candidate's, failed, and were slow, with this share given to it."""
        whose, failed, slow = self.lots[:3, start:end]
        own = whose < share
        grown = (self.scenario.drift - 1) * np.minimum(self.times[start:end] / self.end_s, 1.0)
        old, new = self.scenario.champion, self.scenario.candidate
        fails = (failed < np.where(own, new.errors, old.errors) + grown * old.errors) | self._is_outage(self.times[start:end])
        return own, fails, slow < np.where(own, new.slow, old.slow) + grown * old.slow

    def pairs(
        self, start: int, share: float, end: int | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Requests from ``start`` to ``end``, this share drawn: whether both score it, the champion fails, the candidate does."""
        whose, failed, _, too = self.lots[:, start:end]
        old, new = self.scenario.champion.errors, self.scenario.candidate.errors
        grown = (self.scenario.drift - 1) * np.minimum(self.times[start:end] / self.end_s, 1.0) * old
        down = self._is_outage(self.times[start:end])
        return whose < share, (failed < old + grown) | down, (too < new + grown) | down

    def _is_outage(self, times: Floats) -> NDArray[np.bool_]:
        """Whether each of these moments lies within an outage."""
        begun = np.concatenate([[-math.inf], self.outages])
        since: Floats = times - begun[np.searchsorted(self.outages, times, "right")]
        return since < self.scenario.outage_s

    def labels_until(self, until_s: float) -> tuple[Floats, Floats]:
        """When labels on pairs come, and the differences of losses they show; all until ``until_s`` at least."""
        made = self.scenario
        while made.labels_per_s > 0 and (not self.labels.size or self.labels[0, -1] <= min(until_s, self.end_s)):
            more = min(max(FIRST, self.labels.shape[1]), MOST)
            times = np.cumsum(self.rngs[6].exponential(1 / made.labels_per_s, more))
            times += self.labels[0, -1] if self.labels.size else 0.0
            differences = np.clip(self.rngs[7].normal(made.loss, made.loss_sd, more), -1.0, 1.0)
            self.labels = np.concatenate([self.labels, [times, differences]], axis=1)
        return self.labels[0], self.labels[1]


Judge = Callable[[DecisionRule, Stream], SimulatedDecision]


def run(
    scenario: Scenario, rule: DecisionRule, rollouts: int, seed: int, judges: dict[str, Judge] | None = None
) -> list[SimulationResult]:
    """Each rule's result on the same ``rollouts`` streams. ``judges``: by name, where benchmarks put others beside Noria's.

    Raises ValueError for a rule without steps, and for rates, shares or traffic that cannot be.
    """
    _check(scenario, rule)
    named = judges or {"noria": noria}
    decided: dict[str, list[SimulatedDecision]] = {name: [] for name in named}
    for i in range(rollouts):
        stream = Stream(scenario, rule.patience_s, (seed, i))
        for name, judge in named.items():
            decided[name].append(judge(rule, stream))
    return [result(name, scenario.name, found) for name, found in decided.items()]


def _check(scenario: Scenario, rule: DecisionRule) -> None:
    if not rule.steps:
        raise ValueError("a direct rollout is not judged: there is nothing to simulate")
    if not all(0 < share < 1 for share in rule.shares) or not 0 <= rule.shadow <= 1:
        raise ValueError(f"shares of traffic lie between 0 and 1: {rule.steps}")
    if not (0 <= rule.quality < 1 and abs(scenario.loss) <= 1 and scenario.loss_sd > 0 and scenario.labels_per_s >= 0):
        raise ValueError("a guard on quality and a mean difference of losses are shares of the bound, their spread is positive")
    arms = (scenario.champion, scenario.candidate)
    if not all(0 <= rate * max(1.0, scenario.drift) <= 1 for arm in arms for rate in (arm.errors, arm.slow)):
        raise ValueError("rates of errors and of slow answers lie between 0 and 1, with their drift")
    if not (scenario.outage_every_s >= 0 and scenario.outage_s > 0):
        raise ValueError("outages last, and come at no negative distance")
    if not (scenario.traffic_per_s > 0 and scenario.burst > 0 and scenario.drift > 0 and rule.patience_s > 0):
        raise ValueError("traffic, bursts, drift and patience are positive")


def result(rule: str, scenario: str, found: list[SimulatedDecision]) -> SimulationResult:
    """Counts, and how long decisions took."""
    decided = [d for d in found if d.verdict is not SimulatedVerdict.HELD] or found
    counts = Counter(d.verdict for d in found)
    return SimulationResult(
        rule,
        scenario,
        rollouts=len(found),
        promoted=counts[SimulatedVerdict.PROMOTED],
        rolled_back=counts[SimulatedVerdict.ROLLED_BACK],
        held=counts[SimulatedVerdict.HELD],
        requests=_spread(d.requests for d in decided),
        canary=_spread(d.canary for d in decided),
        seconds=_spread(d.seconds for d in decided),
    )


def _spread(values: Iterable[float]) -> Spread:
    listed = list(values)
    median, p90 = np.quantile(listed, [0.5, 0.9], method="higher") if listed else (0.0, 0.0)
    return Spread(float(median), float(p90))


class StepLooks(msgspec.Struct, frozen=True):
    """A step's looks: which request of the stream each comes after, and what came in since the look before it.

    ``blocks`` [looks, 7]: champion's requests, errors and slow answers, then the candidate's, then pairs that both failed.
    """

    at: NDArray[np.intp]
    blocks: NDArray[np.int64]


def looks(stream: Stream, start: int, share: float, every: int) -> StepLooks:
    """After each error or slow answer of either release, and after ``every`` requests of the candidate without one."""
    own, failed, slow = stream.outcomes(start, share)
    sides = [side for arm in (~own, own) for side in (arm, arm & failed, arm & slow)]
    columns = np.stack([*sides, np.zeros_like(own)], axis=1)
    return _looks(own, failed | slow, columns, start, every)


def paired_looks(stream: Stream, start: int, share: float, every: int) -> StepLooks:
    """After each pair that one of both failed, and after ``every`` pairs without one; slow answers are not compared."""
    drawn, old, new = stream.pairs(start, share)
    never = np.zeros_like(drawn)
    columns = np.stack([drawn, drawn & old, never, drawn, drawn & new, never, drawn & old & new], axis=1)
    return _looks(drawn, drawn & (old | new), columns, start, every)


def _looks(own: NDArray[np.bool_], event: NDArray[np.bool_], columns: NDArray[np.bool_], start: int, every: int) -> StepLooks:
    reached = np.cumsum(own)
    since: NDArray[np.int64] = reached - np.maximum.accumulate(np.where(event, reached, 0))
    at = np.flatnonzero(event | (own & (since > 0) & (since % every == 0)))
    return StepLooks(at + start, np.diff(np.cumsum(columns, axis=0, dtype=np.int64)[at], axis=0, prepend=0))


def noria(rule: DecisionRule, stream: Stream) -> SimulatedDecision:
    """The rollout as ``advance.judge`` would decide it, a look after every event."""
    start, canary, done = 0, 0, np.zeros((0, 9))
    for step, share in enumerate(rule.steps):
        paired = rule.is_paired(step)
        look, counted = (paired_looks, stream.pairs) if paired else (looks, stream.outcomes)
        while True:
            found = look(stream, start, share, rule.look_requests)
            shares, pairs = (np.full(len(found.at), value) for value in (PAIR if paired else share, paired))
            blocks = np.concatenate([done, np.column_stack([shares, found.blocks, pairs])])
            ruled = _first(rule, step, blocks, len(done), stream, found.at)
            if ruled is not None or stream.is_over:
                break
            stream.grow()
        if ruled is None:  # no look came after patience had ended
            verdict, at = SimulatedVerdict.HELD, int(np.searchsorted(stream.times, rule.patience_s, "right"))
            return SimulatedDecision(verdict, at, canary + int(counted(start, share)[0][: at - start].sum()), rule.patience_s)
        index, advised = ruled
        done, at = blocks[: len(done) + index + 1], int(found.at[index])
        canary = int(done[:, 4].sum())
        if advised is not None:
            return SimulatedDecision(advised, at + 1, canary, float(stream.times[at]))
        start = at + 1
    return SimulatedDecision(SimulatedVerdict.PROMOTED, start, canary, float(stream.times[start - 1]))


def _first(
    rule: DecisionRule, step: int, blocks: Floats, earlier: int, stream: Stream, at: NDArray[np.intp]
) -> tuple[int, SimulatedVerdict | None] | None:
    """The first of this step's looks that decides, and what; None in place of a verdict goes on to the next step."""
    if len(blocks) == earlier:
        return None
    times = stream.times[at]
    counts = blocks[:, 1:].astype(np.int64)
    alone = [counts[:, [k, 3 + k]] - (counts[:, [6]] if k == 1 else 0) for k in (1, 2)]
    harm = np.max([eprocess.harm_path(blocks[:, 0], *events.T) for events in alone], axis=0)
    quality_harm, quality_safe = _quality(rule, stream, times)
    harmful = (np.maximum.accumulate(harm)[earlier:] >= rule.harm_needed) | (quality_harm >= rule.harm_needed)
    late = times > rule.patience_s
    # Later blocks change nothing before them: those after a rollback, or after patience, need not be bet on.
    last = earlier + _place(harmful | late) + 1
    safe = _safe(rule, step, blocks[:last])[earlier:]
    cleared = np.minimum(safe, quality_safe[: len(safe)]) >= rule.safe_needed(step)
    asked, failed = np.cumsum(counts[:last, [3, 4]], axis=0)[earlier:].T
    cleared &= (asked > 0) & (failed <= rule.failing * asked)
    n = len(cleared)
    index = _place(harmful[:n] | cleared | late[:n])
    if index == n:
        return None
    if harmful[index]:
        return index, SimulatedVerdict.ROLLED_BACK
    return index, None if cleared[index] else SimulatedVerdict.HELD


def _safe(rule: DecisionRule, step: int, blocks: Floats) -> Floats:
    """The least evidence for safety after each block, of the guards that this step asks for. The shadow step's come first."""
    share, _, failed, _, asked, own, _, both, paired = blocks.T
    errors = eprocess.safe_path(share, failed - both, asked - both, own - both, paired, margin=rule.errors)
    if rule.is_paired(step):
        return errors
    alone = blocks[blocks[:, 8] == 0]  # of slow answers pairs tell nothing
    slow = eprocess.safe_path(*alone[:, [0, 3, 4, 6]].T, margin=rule.slow)
    least: Floats = np.minimum(errors, np.concatenate([np.zeros(len(blocks) - len(alone)), slow]))
    return least


def _quality(rule: DecisionRule, stream: Stream, times: Floats) -> tuple[Floats, Floats]:
    """Evidence for harm and for safety at looks at these times, from the labels that came by then."""
    if not rule.quality:
        return np.zeros(len(times)), np.full(len(times), math.inf)
    come, differences = stream.labels_until(float(times[-1]))
    known = np.searchsorted(come, times, "right")
    shown = differences[: known[-1]]
    paths = betting.harm_path(shown), betting.safe_path(shown, rule.quality)
    harm, safe = (np.concatenate([[0.0], path])[known] for path in paths)
    return harm, safe


def _place(found: NDArray[np.bool_]) -> int:
    """Where the first is; the length when there is none."""
    return int(found.argmax()) if found.any() else len(found)


class PairedDifferences(msgspec.Struct, frozen=True):
    """Paired differences of a bounded loss, as a normal distribution cut to [-1, 1] gives them."""

    name: str
    mean: float
    sd: float


def quality(pairs: PairedDifferences, rule: DecisionRule, margin: float, most: int, rollouts: int, seed: int) -> SimulationResult:
    """A quality guard alone, looked at after every pair of at most ``most``: harm against safety, as for requests.

    ``requests`` and ``canary`` of the result count labelled pairs; ``seconds`` is 0. Raises ValueError for an impossible margin.
    """
    found = []
    for i in range(rollouts):
        differences = np.clip(np.random.default_rng([seed, i]).normal(pairs.mean, pairs.sd, most), -1.0, 1.0)
        harmful = betting.harm_path(differences) >= rule.harm_needed
        cleared = betting.safe_path(differences, margin) >= math.log(1 / rule.missed)
        index = _place(harmful | cleared)
        if index == most:
            found.append(SimulatedDecision(SimulatedVerdict.HELD, most, most, 0.0))
            continue
        verdict = SimulatedVerdict.ROLLED_BACK if harmful[index] else SimulatedVerdict.PROMOTED
        found.append(SimulatedDecision(verdict, index + 1, index + 1, 0.0))
    return result("noria", pairs.name, found)
