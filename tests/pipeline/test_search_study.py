"""Optuna's study behind ours: what is drawn depends on the seed and on what was told, not on how often it was opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria.config import Dimension
from noria.kernel.errors import StoreError
from noria.pipeline.judge_search import Trial, TrialState
from noria.pipeline.search_study import Study, Suggestion

SPACES = {
    "trees": {"rate": Dimension(0.01, 0.3, log=True), "leaves": Dimension(4, 64), "kind": Dimension(choices=("a", "b", True))},
    "linear": {"rate": Dimension(0.5, 2.0), "fixed": Dimension(choices=(7,))},
}


def study(path: Path, **more: Any) -> Study:
    return Study(path, SPACES, **{"higher_is_better": False, "seed": 1, **more})


def score(asked: Suggestion) -> float:
    return abs(asked.params["rate"] - 0.1) + (1 if asked.algorithm == "linear" else 0)


def tell(found: Study, asked: Suggestion, state: TrialState = TrialState.DONE) -> None:
    means = () if state is TrialState.FAILED else (score(asked), score(asked))
    found.tell(Trial(asked.number, asked.algorithm, asked.params, state, means, "why" if state is not TrialState.DONE else ""))


def searched(path: Path, trials: int, again: bool, lag: int = 2) -> list[tuple[int, str, dict[str, Any]]]:
    """Trials with a lag; with ``again`` the study is opened anew for each."""
    found, asked, open_ = study(path), [], []
    for _ in range(trials):
        if again:
            found = study(path)
            open_ = found.under_way()
        if len(open_) == lag:
            tell(found, open_.pop(0))
        asked.append(found.ask())
        open_.append(asked[-1])
    return [(s.number, s.algorithm, s.params) for s in asked]


def test_what_is_drawn_lies_in_the_space(tmp_path: Path) -> None:
    found = searched(tmp_path / "j", 20, again=False)
    assert [number for number, _, _ in found] == list(range(20))
    for _, algorithm, params in found:
        assert list(params) == list(SPACES[algorithm])
        if algorithm == "trees":
            assert 0.01 <= params["rate"] <= 0.3
            assert type(params["leaves"]) is int
            assert 4 <= params["leaves"] <= 64
            assert params["kind"] in ("a", "b", True)
            assert float(f"{params['rate']:.6g}") == params["rate"]
        else:
            assert 0.5 <= params["rate"] <= 2.0
            assert params["fixed"] == 7
    assert {algorithm for _, algorithm, _ in found} == {"trees", "linear"}


def test_opened_anew_before_every_trial_it_draws_the_same(tmp_path: Path) -> None:
    assert searched(tmp_path / "a", 16, again=False) == searched(tmp_path / "b", 16, again=True)


def test_cut_off_after_any_line_of_the_journal_it_draws_the_same(tmp_path: Path) -> None:
    """As a kill in the middle of asking or telling leaves it: some parameters of a trial are drawn, others not yet."""
    whole = searched(tmp_path / "whole", 6, again=False)
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    for kept in range(2, len(lines)):
        path = tmp_path / f"{kept}"
        path.write_bytes(b"".join(lines[:kept]))
        found = study(path)
        told, asked = found.known_trials(), found.under_way()
        drawn = [(s.number, s.algorithm, s.params) for s in asked]
        assert [*((t.number, t.algorithm, t.params) for t in told), *drawn] == whole[: len(told) + len(drawn)]


def test_another_seed_draws_others(tmp_path: Path) -> None:
    first = study(tmp_path / "a").ask()
    assert first != study(tmp_path / "b", seed=2).ask()


def test_it_learns(tmp_path: Path) -> None:
    found = study(tmp_path / "j")
    late = []
    for number in range(40):
        asked = found.ask()
        tell(found, asked)
        if number >= 25:
            late.append(asked)
    assert sum(s.algorithm == "trees" for s in late) >= 10  # of 15, where drawing blindly gives half


def test_told_trials_come_back_as_they_were(tmp_path: Path) -> None:
    found = study(tmp_path / "j")
    states = [TrialState.DONE, TrialState.PRUNED, TrialState.FAILED]
    asked = [found.ask() for _ in range(4)]
    for one, state in zip(asked, states, strict=False):
        tell(found, one, state)
    again = study(tmp_path / "j")
    told = again.known_trials()
    assert [t.state for t in told] == states
    assert [(t.algorithm, t.params) for t in told] == [(s.algorithm, s.params) for s in asked[:3]]
    assert told[0].means == (score(asked[0]),) * 2
    assert [t.reason for t in told] == ["", "why", "why"]
    assert again.under_way() == asked[3:]


def test_first_points_are_tried_first_as_far_as_they_lie_in_the_space(tmp_path: Path) -> None:
    first = {"trees": {"rate": 0.05, "leaves": 9999, "kind": "b", "other": 1}, "linear": {"rate": 0.05}}
    for _ in range(2):  # opened twice: they are not tried twice
        found = study(tmp_path / "j", first=first)
    asked = [found.ask() for _ in range(3)]
    assert [s.algorithm for s in asked[:2]] == ["trees", "linear"]
    assert asked[0].params["rate"] == 0.05
    assert asked[0].params["kind"] == "b"
    assert asked[0].params["leaves"] <= 64
    assert 0.5 <= asked[1].params["rate"] <= 2.0


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_cut(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    found = study(path)
    tell(found, found.ask())
    whole = path.read_bytes()
    found.ask()
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:cut])
    again = study(path)
    assert len(again.known_trials()) == 1
    tell(again, again.ask())
    assert len(study(path).known_trials()) == 2


def test_a_spoilt_journal_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("{}\nnonsense\n{}\n")
    with pytest.raises(StoreError, match="journal cannot be read"):
        study(tmp_path / "j")
