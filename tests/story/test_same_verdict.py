"""Asking again changes no verdict."""

from __future__ import annotations

from small_project import Small


def test_the_verdict_of_the_turn_that_did_the_work_is_the_verdict(small: Small) -> None:
    """Number 6: `noria run` after a failed gate ends as the gate did, in its words, however often it is asked."""
    small.edit("noria.yaml", "roc_auc >= 0.6", "roc_auc >= 0.999")
    small.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.01)")
    small.commit("an impossible gate")
    first = small.run()
    assert (first.code, first.facts["outcome"]) == (1, "gate failed")
    words = first.facts["reason"]
    for _ in range(2):
        again = small.run()
        assert (again.code, again.facts["outcome"]) == (1, "gate failed"), again
        assert (
            f"nothing changed: same commit, data, parameters and environment; turn {first.facts['turn']} "
            in again.facts["reason"]
        )
        assert again.facts["reason"].endswith(words)
    compared = small.noria("diff", "--json").facts
    assert compared["after"]["turn"] == small.turns()[2]["id"], "the run that was measured, not one that repeats its verdict"
    assert [m["name"] for m in compared["metrics"] if m["after"] is not None]
    small.edit("noria.yaml", "roc_auc >= 0.999", "roc_auc >= 0.6")
    small.commit("a gate for this world")
    assert small.run().code == 0
    assert small.run().facts["outcome"] == "nothing changed"
