"""How often evidence is wrong and how long it takes, of rollouts, holdouts, gates and files: played out, written into
docs/statistics.md.

    python -m benchmarks.evidence [--rollouts 2000] [--only gates] [--page FILE]

Every rollout comes from `noria.delivery.simulation`, with a look after each error and each slow answer. The same seed gives the
same table. The tests check the same scenarios at a smaller size (tests/delivery/test_simulate.py).
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from benchmarks import anomalies, gates, holdouts, pairs, rivals
from benchmarks.pairs import Failing
from noria.delivery import simulation
from noria.delivery.simulation import ArmShares, DecisionRule, PairedDifferences, Scenario, SimulationResult

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
END = "<!-- end -->"
DAY_S = 86400.0
RULE = DecisionRule((0.1,), patience_s=7 * DAY_S)
CHAMPION = ArmShares(0.01, 0.005)
SELDOM = ArmShares(0.001, 0.001)  # a champion that hardly ever fails: harm of the guard's size is promoted most easily then
SETTINGS: dict[str, tuple[DecisionRule, Scenario]] = {
    "1 % of traffic": (replace(RULE, shares=(0.01,)), Scenario("", CHAMPION, CHAMPION)),
    "50 %": (replace(RULE, shares=(0.5,)), Scenario("", CHAMPION, CHAMPION)),
    "75 %": (replace(RULE, shares=(0.75,)), Scenario("", CHAMPION, CHAMPION)),
    "90 %": (replace(RULE, shares=(0.9,)), Scenario("", CHAMPION, CHAMPION)),
    "1 %; every half hour all requests fail for 30 s": (
        replace(RULE, shares=(0.01,)),
        Scenario("", CHAMPION, CHAMPION, outage_every_s=1800.0),
    ),
    "10 %; every half hour all requests fail for 30 s": (RULE, Scenario("", CHAMPION, CHAMPION, outage_every_s=1800.0)),
    "5 %, then 25 %": (replace(RULE, shares=(0.05, 0.25)), Scenario("", CHAMPION, CHAMPION)),
    "5 %, 25 %, 60 %; bursts of 20 times the traffic": (
        replace(RULE, shares=(0.05, 0.25, 0.6)),
        Scenario("", CHAMPION, CHAMPION, burst=20.0),
    ),
    "a shadow of 30 %, then 10 %": (replace(RULE, shadow=0.3), Scenario("", CHAMPION, CHAMPION)),
    "5 %, 25 %; the champion's errors grow fivefold in an hour": (
        replace(RULE, shares=(0.05, 0.25), patience_s=3600.0),
        Scenario("", CHAMPION, CHAMPION, drift=5.0),
    ),
}
COMPARED = {"as good": 0.01, "worse by the guard": 0.02, "5 % errors": 0.05}
LABELS = PairedDifferences("", 0.0, 0.1)
SEED = 1701


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.evidence", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rollouts", type=int, default=2000, help="of each kind; 2000")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to renew; docs/statistics.md")
    parser.add_argument("--only", choices=list(BLOCKS), action="append", help="make these tables; all")
    given = parser.parse_args()
    for name in given.only or BLOCKS:
        begun = time.monotonic()
        text = BLOCKS[name](given.rollouts)
        print(text)
        renew(given.page, name, text)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return 0


def validity(rollouts: int) -> str:
    """The table of errors."""
    lines = [
        f"{rollouts:,} rollouts of each kind, 20 requests/s, 1 % of the champion's answers errors and 0.5 % slow; too much are",
        "1 % more errors or 2 % more slow answers; `false_alarm` 1 %, `missed` 5 %, a look after each error and slow answer.",
        "Beside each rate two standard errors. For harm of the guard's size the champion fails in 0.1 % only: with more, less is",
        "promoted.",
        "",
        "| shares, traffic | good: rolled back (1 %) | worse by the guard: promoted (5 %) | good: requests to a decision |",
        "|---|---|---|---|",
    ]
    for name, (rule, good) in SETTINGS.items():
        (null,) = simulation.run(good, rule, rollouts, SEED)
        worse = replace(good, champion=SELDOM, candidate=ArmShares(SELDOM.errors + rule.errors, SELDOM.slow))
        (harm,) = simulation.run(worse, rule, rollouts, SEED + 1)
        requests = f"{null.requests.median:,.0f} ({null.requests.p90:,.0f})"
        lines.append(f"| {name} | {_rate(null.rolled_back, rollouts)} | {_rate(harm.promoted, rollouts)} | {requests} |")
    return "\n".join(lines)


def beside(rollouts: int) -> str:
    """Noria beside the others, on the same streams."""
    lines = [
        f"Streams judged by others too: {rollouts:,} rollouts of each kind at 10 % of 20 requests/s. The test of fixed size is",
        "one-sided, for the same two error rates, told the champion's true rates beforehand, with a look at its end, or at every",
        f"event from {rivals.WARM} requests of the canary on. The thresholds are the champion's true rates plus the guard,",
        "by the minute: as in the documentation of Argo Rollouts (`failureLimit: 3`, a step of 10 minutes) and of Flagger",
        "(`threshold: 5`, from 10 % to 50 % by 10 %).",
        "",
        "| candidate | rule | promoted | rolled back | requests to a decision | of the canary | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, errors in COMPARED.items():
        scenario = Scenario(name, CHAMPION, replace(CHAMPION, errors=errors))
        found = simulation.run(scenario, replace(RULE, patience_s=DAY_S), rollouts, SEED + 2, rivals.judges())
        lines += [_beside(one) for one in found]
    return "\n".join(lines)


def labels(rollouts: int) -> str:
    """Quality on pairs."""
    margin, most = 0.02, 20_000
    lines = [
        f"Labels on pairs, a look after each: differences of losses with standard deviation {LABELS.sd:g}, guard {margin:g},",
        f"three guards that share `false_alarm`; {rollouts:,} rollouts of each kind of at most {most:,} pairs.",
        "",
        "| mean difference | promoted | rolled back | pairs to a decision |",
        "|---|---|---|---|",
    ]
    for mean in (0.0, margin, 2 * margin):
        one = simulation.quality(replace(LABELS, mean=mean), replace(RULE, guards=3), margin, most, rollouts, SEED + 3)
        spread = f"{one.requests.median:,.0f} ({one.requests.p90:,.0f})"
        lines.append(f"| {mean:g} | {_rate(one.promoted, rollouts)} | {_rate(one.rolled_back, rollouts)} | {spread} |")
    return "\n".join(lines)


SMALL = Failing(0.01, 0.01)
LARGE = Failing(0.1, 0.1)
HOSTILE = Failing(0.01, 0.01, both=0.02)
COUNTED: dict[str, pairs.Play] = {
    "a shadow step: both fail in 1 %, each by itself": lambda rng: pairs.shadowed(rng, SMALL, 30_000),
    "the same, and 5 % of requests fail both": lambda rng: pairs.shadowed(rng, Failing(0.01, 0.01, both=0.05), 30_000),
    "probation, pairs of 5 %: both fail in 1 %": lambda rng: pairs.probation(rng, SMALL, 30_000, 0.05),
    "of 10 %": lambda rng: pairs.probation(rng, SMALL, 30_000, 0.1),
    "of 50 %": lambda rng: pairs.probation(rng, SMALL, 30_000, 0.5),
    "of 10 %, and 2 % of requests fail both": lambda rng: pairs.probation(rng, HOSTILE, 30_000, 0.1),
    "of 10 %, a third of them dropped": lambda rng: pairs.probation(rng, SMALL, 30_000, 0.1, 1 / 3),
    "of 10 %, a third of them dropped, both fail in 10 %": lambda rng: pairs.probation(rng, LARGE, 5_000, 0.1, 1 / 3),
    "`assign: key`, 5 %: 500 users, 2 % of whom always fail": lambda rng: pairs.sticky(rng, 0.05, 30_000, 500),
    "`assign: key`, 50 %: 20,000 users": lambda rng: pairs.sticky(rng, 0.5, 30_000, 20_000),
    "the same, were each request counted": lambda rng: pairs.sticky(rng, 0.5, 30_000, 20_000, once=False),
}


def apart(rollouts: int) -> str:
    """Errors that are counted in another way than an ordinary canary's."""
    each = 100 * pairs.FALSE_ALARM / pairs.GUARDS
    lines = [
        f"Errors alone, as a shadow step, probation and `assign: key` count them; this guard may be wrong in {each:g} %.",
        f"{rollouts:,} rollouts of each kind, of 30,000 requests (5,000 where 10 % fail), a look after each event.",
        "Neither release is worse. Some users come often: the k-th 1/k as often as the first.",
        "",
        f"| counted | rolled back ({each:g} %) |",
        "|---|---|",
    ]
    for i, (name, play) in enumerate(COUNTED.items()):
        lines.append(f"| {name} | {_rate(pairs.blamed(play, rollouts, SEED + 10 + i), rollouts)} |")
    scenario = Scenario("", SELDOM, replace(SELDOM, slow=SELDOM.slow + RULE.slow))
    (found,) = simulation.run(scenario, replace(RULE, shadow=1.0), rollouts, SEED + 30)
    lines += [
        "",
        "Slower by the guard than a champion with 0.1 % slow answers, at 10 % after a shadow step of all requests, whose pairs",
        f"tell nothing of slow answers: {_rate(found.promoted, rollouts)} promoted (5 %).",
    ]
    return "\n".join(lines)


SLIGHT = {  # the champion's share of errors, the candidate's, and requests at most
    (0.1, 0.15): 100_000,
    (0.1, 0.12): 200_000,
    (0.1, 0.11): 400_000,
    (0.1, 0.105): 1_000_000,
    (0.01, 0.015): 400_000,
    (0.01, 0.012): 1_000_000,
}


def small(rollouts: int) -> str:
    """How long harm that is small takes to be shown."""
    lines = [
        f"A release that is a little worse, in probation with pairs of 10 %: {rollouts:,} rollouts of each kind.",
        "",
        "| errors before, and now | of so many requests | rolled back | requests until then |",
        "|---|---|---|---|",
    ]
    for i, ((old, new), most) in enumerate(SLIGHT.items()):
        found = [pairs.needed(np.random.default_rng([SEED + 40 + i, k]), Failing(old, new), most, 0.1) for k in range(rollouts)]
        shown = sorted(n for n in found if n < math.inf)
        after = f"{shown[len(shown) // 2]:,.0f}" if shown else "–"
        lines.append(f"| {100 * old:g} %, {100 * new:g} % | {most:,} | {100 * len(shown) / rollouts:.0f} % | {after} |")
    return "\n".join(lines)


def unusual(histories: int) -> str:
    """How often a file is called unusual over nothing, and how often a shift is found."""
    few = max(1, histories // 2)
    sizes = anomalies.SIZES
    head = " | ".join(f"{size} files" for size in sizes)
    lines = [
        f"Files of about {anomalies.ROWS:,} rows with {anomalies.NUMBERS} columns of numbers and {anomalies.TEXTS} of texts,",
        "held against as many accepted files; a file's volume varies by 10 %, its means by 0.1 of the rows' standard deviation,",
        f"its shares of nulls by 20 %, besides chance. `false_alarm` {100 * anomalies.FALSE_ALARM:g} %; {histories:,} histories",
        f"of each kind, {few:,} for each shift.",
        "",
        f"| alarms over nothing; what moves the files | {head} |",
        f"|---|{'---|' * len(sizes)}",
    ]
    for i, (kind, words) in enumerate(anomalies.KINDS.items()):
        found = [_rate(anomalies.rate(kind, size, "", histories, SEED + 50 + i), histories) for size in sizes]
        lines.append(f"| {words} | {' | '.join(found)} |")
    lines += ["", f"| found, of independent, normal files | {head} |", f"|---|{'---|' * len(sizes)}"]
    for i, shift in enumerate(anomalies.SHIFTS):
        counts = [anomalies.rate("independent", size, shift, few, SEED + 60 + i) for size in sizes]
        lines.append(f"| {shift} | {' | '.join(f'{100 * count / few:.0f} %' for count in counts)} |")
    return "\n".join(lines)


def _beside(one: SimulationResult) -> str:
    shares = f"{100 * one.promoted / one.rollouts:.1f} % | {100 * one.rolled_back / one.rollouts:.1f} %"
    requests, canary = (f"{spread.median:,.0f} ({spread.p90:,.0f})" for spread in (one.requests, one.canary))
    return f"| {one.scenario} | {one.rule} | {shares} | {requests} | {canary} | {one.seconds.median / 60:.3g} |"


def _rate(count: int, of: int) -> str:
    rate = count / of
    return f"{100 * rate:.1f} % ± {200 * math.sqrt(max(rate, 1 / of) * (1 - rate) / of):.1f}"


def rollouts(count: int) -> str:
    """The tables of rollouts."""
    made = [table(count) for table in (validity, beside, labels, apart)]
    said = "Requests and pairs to a decision: the median, and in parentheses what 9 in 10 stay below."
    return "\n\n".join([said, *made, small(max(1, count // 10))])


def looks(count: int) -> str:
    """The tables of holdouts."""
    return f"{holdouts.cost()}\n\n{holdouts.table(max(1, count // 10), SEED + 60)}"


# The tables between each pair of marks on the page, from a number of rollouts; what takes longer is played out less often.
BLOCKS: dict[str, Callable[[int], str]] = {
    "rollouts": rollouts,
    "holdouts": looks,
    "files": lambda count: unusual(max(1, count // 10)),
    "gates": lambda count: gates.table(max(1, count // 5)),
    "power": lambda count: gates.power(max(1, count // 5)),
    "slices": lambda count: gates.slices(max(1, count // 2)),
}


def begin(name: str) -> str:
    """The mark before the tables of a block."""
    return f"<!-- made by `make tables`: {name} -->"


def renew(page: Path, name: str, text: str) -> None:
    """Put the tables of a block between its marks. Raises ValueError when the page does not have them."""
    before, mark, rest = page.read_text().partition(begin(name))
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{page.name} has no marks {begin(name)} and {END}")
    machine = f"Made by `make tables`, {time.strftime('%B %Y')}, Python {platform.python_version()}."
    page.write_text(f"{before}{mark}\n{machine}\n\n{text}\n{end}{after}")


if __name__ == "__main__":
    raise SystemExit(main())
