"""The judge of the number of workers: loads are simulated, second by second, and followed to the end."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel.workers import MOST, Workers
from noria.serving.judge_scaling import (
    DOWN_BUSY,
    DOWN_S,
    UP_S,
    WAIT_BUSY,
    LoadSample,
    ScalingDecision,
    ScalingRule,
    ceiling,
    decide,
    workers_needed,
)

Load = Callable[[int], float]  # second -> how many workers' whole time the requests need


def lived(
    load: Load, seconds: int, bounds: Workers, cores: float = 64.0, service_s: float = 0.002, uneven: float = 0.0
) -> tuple[int, list[tuple[int, ScalingDecision]]]:
    """The number at the end, and (second, decision) of each change.

    A worker beyond its capacity is busy all the time, and its requests wait.
    """
    size, history, made = bounds.least, list[LoadSample](), list[tuple[int, ScalingDecision]]()
    for second in range(seconds):
        each = load(second) / size
        busy = [min(1.0, max(0.0, each * (1 + uneven * (1 if i % 2 else -1)))) for i in range(size)]
        hot = min(max(busy), 0.999)
        history = [*history[-120:], LoadSample(float(second), tuple(busy), service_s * 1000 * hot / (2 * (1 - hot)))]
        made_now = decide(float(second), history, size, bounds, cores)
        if made_now is not None and made_now.size != size:
            made.append((second, made_now))
            size = made_now.size
    return size, made


def test_a_step_is_followed_within_seconds_and_left_slowly() -> None:
    size, made = lived(lambda t: 0.2 if t < 30 or t >= 90 else 2.9, 400, Workers(1, 8))
    assert [(d.before, d.size) for _, d in made] == [(1, 2), (2, 4), (4, 3), (3, 2), (2, 1)]
    ups = [t for t, d in made if d.size > d.before]
    assert 30 <= ups[0] <= 30 + UP_S + 1
    assert ups[-1] <= 30 + 3 * (UP_S + 1)
    downs = [t for t, d in made if d.size < d.before]
    assert downs[0] >= 90
    assert all(later - earlier >= 0.8 * DOWN_S for earlier, later in itertools.pairwise(downs))
    assert size == 1


@given(
    load=st.floats(0.0, 70.0),
    least=st.integers(1, 8),
    room=st.integers(0, 56),
    cores=st.floats(0.5, 64.0),
    service_s=st.sampled_from([0.0005, 0.01, 0.1, 0.5]),
    uneven=st.floats(0.0, 0.3),
)
@settings(max_examples=40, deadline=None)
def test_a_constant_load_never_swings(load: float, least: int, room: int, cores: float, service_s: float, uneven: float) -> None:
    """From the least number: up, then down at most; after the first step down none goes up. Then nothing more, ever."""
    bounds = Workers(least, min(least + room, MOST))
    size, made = lived(lambda t: load, 1200, bounds, cores, service_s, uneven)
    turns = ["up" if d.size > d.before else "down" for _, d in made]
    assert turns == sorted(turns, reverse=True)
    assert bounds.least <= size <= ceiling(bounds, cores)
    assert all(t < 1100 for t, _ in made) or len(made) > 15  # it comes to rest; from 64 one a minute takes its time


@given(seed=st.integers(0, 10_000), load=st.floats(0.3, 6.0), noise=st.floats(0.0, 0.25))
@settings(max_examples=15, deadline=None)
def test_noise_around_a_constant_load_makes_few_changes(seed: int, load: float, noise: float) -> None:
    draw = random.Random(seed)
    _, made = lived(lambda t: max(0.0, load * draw.gauss(1.0, noise)), 1800, Workers(1, 12))
    back = [d for (_, b), (_, d) in itertools.pairwise(made) if b.size < b.before and d.size > d.before]
    assert back == []


def test_a_ramp_is_followed_without_saturation() -> None:
    saturated = []

    def load(t: int) -> float:
        return min(6.0, 0.3 + t / 60)

    size, made = lived(load, 600, Workers(1, 16))
    for (t, d), (until, _) in zip(made, [*made[1:], (600, None)], strict=True):
        saturated += [s for s in range(t + int(UP_S) + 1, until) if load(s) / d.size > 0.9]
    assert all(d.size > d.before for _, d in made)
    assert saturated == []
    assert 6.0 / size <= 0.75


def test_a_day_is_a_wave_of_few_changes() -> None:
    """A day squeezed into two hours, from 0.3 to 4.3 workers' time: up on its slope, down on the other, nothing in between."""
    _, made = lived(lambda t: 2.3 - 2 * math.cos(2 * math.pi * t / 7200), 7200, Workers(1, 8))
    directions = [1 if d.size > d.before else -1 for _, d in made]
    assert sum(1 for a, b in itertools.pairwise(directions) if a != b) <= 1
    assert len(made) <= 14


def test_bursts_of_seconds_change_nothing_and_keep_what_they_need() -> None:
    """Two seconds of each minute at full load are no reason for more; but they are one not to take a needed worker away."""
    _, made = lived(lambda t: 1.0 if t % 60 < 2 else 0.1, 600, Workers(1, 4))
    assert made == []
    for length in (1, 2, 3, 4, 5):  # a burst that comes at least every 50 s moves the number up at most
        for period in (20, 30, 50):
            _, made = lived(lambda t, n=length, p=period: 1.0 if t % p < n else 0.05, 600, Workers(1, 4))  # type: ignore[misc]
            assert all(d.size > d.before for _, d in made)
    history = [LoadSample(float(t), (0.9, 0.9) if t % 30 < 6 else (0.05, 0.05), 1.0) for t in range(120)]
    assert sum(s.load for s in history[-60:]) / 60 < DOWN_BUSY
    assert decide(119.0, history, 2, Workers(1, 4), 8.0) is None


def test_waiting_alone_is_no_reason_while_the_workers_are_idle() -> None:
    """A slow model that is asked once a second: its requests may meet each other, but another worker would idle."""
    history = [LoadSample(float(t), (0.3,), 80.0) for t in range(10)]
    assert decide(9.0, history, 1, Workers(1, 4), 8.0) is None
    decision = decide(9.0, [LoadSample(s.at, (WAIT_BUSY + 0.05,), 80.0) for s in history], 1, Workers(1, 4), 8.0)
    assert decision is not None
    assert (decision.rule, decision.size) == (ScalingRule.WAITING, 2)
    assert decision.text == (
        "1 -> 2 workers: a request waits 80 ms (more than 50 ms); busy 0.65 of the time over 3 s (more than 0.6)"
    )


def test_the_machine_and_the_project_set_the_ceiling_and_it_says_which() -> None:
    history = [LoadSample(float(t), (0.9, 0.9), 8.0) for t in range(10)]
    capped = decide(9.0, history, 2, Workers(1, 4), 2.0)
    assert capped is not None
    assert (capped.size, capped.rule) == (2, ScalingRule.CAPPED)
    assert capped.text == "stays at 2 workers: busy 0.90 of the time over 5 s, and the machine has no core for another"
    full = decide(9.0, history, 2, Workers(1, 2), 8.0)
    assert full is not None
    assert full.text == "stays at 2 workers: busy 0.90 of the time over 5 s, and 2 is the maximum"
    more = decide(9.0, history, 2, Workers(1, 4), 8.0)
    assert more is not None
    assert more.text == "2 -> 3 workers: busy 0.90 of the time over 5 s (more than 0.75); a request waits 8 ms"
    assert ceiling(Workers(1, 4), 1.5) == 2
    assert ceiling(Workers(3, 4), 1.0) == 3  # what was asked for at least is kept


def test_fewer_says_what_it_would_have_been() -> None:
    history = [LoadSample(float(t), (0.2, 0.2, 0.2), 0.4) for t in range(61)]
    decision = decide(60.0, history, 3, Workers(1, 4), 8.0)
    assert decision is not None
    assert decision.text == "3 -> 2 workers: busy 0.20 of the time over 1 min; 2 would be busy 0.30 (less than 0.5)"


@pytest.mark.parametrize("gap", [0, 20, 45])
def test_only_what_was_measured_at_the_present_number_counts(gap: int) -> None:
    """Neither seconds of another number of workers, nor a window with holes, decide."""
    history = [LoadSample(float(t), (0.1,) * (3 if t < 60 - gap else 2), 0.1) for t in range(60)]
    assert decide(59.0, history, 2, Workers(1, 4), 8.0) is None
    assert decide(59.0, [LoadSample(s.at, (0.95, 0.95), 9.0) for s in history][:-4], 2, Workers(1, 4), 8.0) is None


def test_what_an_autoscaler_sums_is_the_load_over_the_aim() -> None:
    assert workers_needed(1.2) == pytest.approx(2.0)


@pytest.mark.parametrize(("text", "least", "most"), [("2", 2, 2), ("1:4", 1, 4), ("1..4", 1, 4), ("64", 64, 64)])
def test_a_number_or_a_range_of_workers(text: str, least: int, most: int) -> None:
    found = Workers.of(text)
    assert found == Workers(least, most)
    assert Workers.of(str(found)) == found


@pytest.mark.parametrize("text", ["0", "4:1", "1:65", "", ":", "1:", "1..", "a", "1:4:5", "-1", "1.5"])
def test_what_is_no_number_of_workers(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        Workers.of(text)
