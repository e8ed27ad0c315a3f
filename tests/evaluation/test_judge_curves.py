"""The curves of a candidate beside the champion's, for each task."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from sklearn import metrics as sk

from noria import config
from noria.evaluation import judge_curves
from noria.evaluation.scores import ComparedRelease, Scores
from noria.kernel.task import Task
from noria.releases.release import Release, ServedForm
from noria.stats.curve_records import EvaluationCurves

MODEL = config.Model(rows="r", key="id", task=Task.BINARY, inputs=("a",), label="late", train="m:train", holdout=None)  # type: ignore[arg-type]  # unread here
V7 = Release("v7", "d" * 64, "p", "run-1", None, ServedForm.COMPILED, 0.0, None, {})


def curves(task: Task, classes: list[str], y: Any, mine: Any, theirs: Any = None, **more: Any) -> EvaluationCurves:
    champion = ComparedRelease(V7, Scores(np.asarray(theirs, dtype=float), "")) if theirs is not None else None
    candidate = Scores(np.asarray(mine, dtype=float), "", **more)
    found = judge_curves.evaluation_curves(replace(MODEL, task=task), classes, np.asarray(y), candidate, champion)
    assert found is not None
    assert msgspec.json.decode(msgspec.json.encode(found), type=EvaluationCurves) == found
    return found


def test_two_classes_with_their_champion() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(size=2000)
    y = (random.uniform(size=2000) < p).astype(int)
    found = curves(Task.BINARY, ["no", "yes"], y, p, np.clip(p + random.normal(0, 0.3, 2000), 0, 1))
    assert (found.champion_name, found.classes, found.rows, found.label) == ("v7", ("no", "yes"), 2000, "late")
    (mine,), champion = found.candidate.ranks, found.champion
    assert champion is not None
    assert mine.name == "yes"
    assert sk.auc(mine.roc.x, mine.roc.y) == pytest.approx(sk.roc_auc_score(y, p), abs=0.001)
    assert sk.auc(mine.roc.x, mine.roc.y) > sk.auc(champion.ranks[0].roc.x, champion.ranks[0].roc.y)
    np.testing.assert_array_equal(found.candidate.confusion, sk.confusion_matrix(y, p >= 0.5))
    assert mine.calls == pytest.approx([np.mean(p[y == 0] >= 0.5), np.mean(p[y == 1] >= 0.5)], abs=1e-4)
    assert len(msgspec.json.encode(found)) < 40_000


def test_calls_are_those_of_the_releases_own_rule() -> None:
    y = np.array([0, 1] * 50)
    found = curves(Task.BINARY, ["0", "1"], y, np.full(100, 0.3), called=np.ones(100, dtype=np.intp))
    assert found.candidate.confusion == ((0, 50), (0, 50))
    assert found.candidate.ranks[0].calls == (1.0, 1.0)


def test_one_class_has_nothing_to_rank() -> None:
    found = curves(Task.BINARY, ["0", "1"], np.zeros(60, dtype=int), np.linspace(0, 1, 60))
    assert found.candidate.ranks == ()
    assert sum(b.rows for b in found.candidate.calibration) == 60


def test_many_classes_keep_the_commonest() -> None:
    random = np.random.default_rng(3)
    weights = np.arange(1, 21) / np.arange(1, 21).sum()
    y = random.choice(20, 4000, p=weights)
    p = random.dirichlet(np.ones(20), 4000)
    p[np.arange(4000), y] += 0.5
    p /= p.sum(axis=1, keepdims=True)
    names = [f"c{place}" for place in range(20)]
    found = curves(Task.MULTICLASS, names, y, p, p[:, ::-1])
    commonest = np.argsort(-np.bincount(y), kind="stable")
    assert [one.name for one in found.candidate.ranks] == [names[place] for place in commonest[:6]]
    shown = sorted(commonest[:11])
    assert found.classes == (*(names[place] for place in shown), judge_curves.OTHERS)
    counted = np.array(found.candidate.confusion)
    assert counted.shape == (12, 12)
    assert counted.sum() == 4000
    whole = sk.confusion_matrix(y, p.argmax(axis=1))
    np.testing.assert_array_equal(counted[:11, :11], whole[np.ix_(shown, shown)])
    rare = np.setdiff1d(np.arange(20), shown)
    assert counted[11, 11] == whole[np.ix_(rare, rare)].sum()
    assert sum(b.rows * b.observed for b in found.candidate.calibration) == pytest.approx(np.trace(whole), rel=1e-3)


def test_a_champion_of_other_classes_has_no_curves() -> None:
    y = np.array([0, 1, 2] * 40)
    p = np.full((120, 3), 1 / 3)
    found = curves(Task.MULTICLASS, ["a", "b", "c"], y, p, np.full((120, 2), 0.5))
    assert (found.champion, found.champion_name) == (None, None)


def test_numbers() -> None:
    random = np.random.default_rng(4)
    y = random.gamma(2, 10, 3000)
    found = curves(Task.REGRESSION, [], y, y + random.normal(0, 2, 3000), y + random.normal(3, 4, 3000))
    champion = found.champion
    assert champion is not None
    assert sum(found.candidate.residual_counts) == sum(champion.residual_counts) == 3000
    assert len(found.residual_edges) == len(found.candidate.residual_counts) - 1
    assert champion.residuals[4].p50 == pytest.approx(-3, abs=1.5)
    assert found.candidate.gain is not None
    below = curves(Task.REGRESSION, [], y - 50, y)
    assert below.candidate.gain is None  # shares of a sum that has negative parts say nothing


def test_all_numbers_alike() -> None:
    found = curves(Task.REGRESSION, [], np.full(60, 2.0), np.full(60, 2.0))
    assert sum(found.candidate.residual_counts) == 60
    assert found.candidate.calibration[0].observed == 2.0


def test_no_answers_no_curves() -> None:
    assert judge_curves.evaluation_curves(MODEL, ["0", "1"], np.zeros(0), Scores(None, "it failed"), None) is None
