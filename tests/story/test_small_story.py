"""The wheel in small: canary both ways, rollback by hand and back, reproduction."""

from __future__ import annotations

from small_project import ASK, Asking, Small, address_of, post, until

CANARY = "{rollout: {steps: [20%, 100%], replay: 0, guard: {errors: 5%, latency: {over: 5s, by: 30%}}, missed: 20%}}"
HOSTED = """\
import polars as pl


def features(rows):
    return rows.select("a", b=pl.when(pl.col("b").is_null()).then(0.0).otherwise(pl.col("b")))
"""
RAISING = HOSTED.replace("    return", "    if (rows['a'] > 5).any():\n        raise ValueError('a beyond 5')\n    return")


def outcome(small: Small, trigger: str) -> tuple[str, str] | None:
    """Outcome and reason of the newest turn of this trigger, once it has ended."""
    found = small.ledger("SELECT outcome, reason FROM turns WHERE trigger LIKE ? ORDER BY number DESC LIMIT 1", trigger)
    return found[0] if found and found[0][0] not in ("running", "rolling out") else None


def test_a_canary_promotes_the_good_and_rolls_back_the_bad(small: Small) -> None:
    """Half of the rows make the second candidate's features raise; its every request is answered by the champion."""
    small.edit("noria.yaml", "{rollout: direct}", CANARY)
    small.commit("by canary")
    with small.up().ready():
        until(lambda: outcome(small, "%by canary%"), "the turn of the policy")
        with Asking(address_of(small), lambda n: ASK | {"a": 6.0 if n % 2 else 1.0}) as asking:
            small.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.3)")
            small.commit("good candidate")
            good = until(lambda: outcome(small, "%good candidate%"), "the good candidate's verdict")
            assert good[0] == "promoted", good
            assert small.champion() == "v2"

            small.write("shape.py", RAISING)
            small.edit("noria.yaml", 'train: "model:train"', 'train: "model:train"\n  features: "shape:features"')
            bad_commit = small.commit("bad candidate")
            bad = until(lambda: outcome(small, "%bad candidate%"), "the bad candidate's verdict")
            assert bad[0] == "rolled back", bad
            assert "errors" in bad[1]
            assert "requests" in bad[1]
            assert small.champion() == "v2"

            again = small.run()
            assert again.code == 1, again
            assert again.facts["outcome"] == "barred", again
            assert "v3" in again.facts["reason"]
        assert asking.wrong == []
        assert asking.right > 100
        assert asking.releases <= {"v1", "v2", "v3"}
        assert post(address_of(small), "/predict", ASK)[1]["release"] == "v2"
    barred = small.noria("show", "v3", "--json").facts["release"]
    assert barred["commit"] == bad_commit
    assert barred["barred"]


def test_rollback_and_promote_by_hand(small: Small) -> None:
    ran = small.noria("rollback", "--json")
    assert ran.code == 1, ran
    assert "no release to return to" in ran.error
    assert "noria releases" in ran.error
    small.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.3)")
    small.commit("second")
    assert small.run().facts["release"] == "v2"
    with small.up().ready():
        address = address_of(small)
        for command, serves in ((["rollback"], "v1"), (["promote", "v2"], "v2"), (["rollback", "--to", "v1"], "v1")):
            ran = small.noria(*command, "--json")
            assert ran.code == 0, ran
            assert ran.facts["release"] == serves
            assert post(address, "/predict", ASK)[1]["release"] == serves
        twice = small.noria("rollback", "--json")
        assert (twice.code, "v2 is barred: production rolled back from v2 to v1: asked by" in twice.error) == (1, True), twice
        assert small.noria("promote", "v2", "--json").code == 0
    ran = small.noria("promote", "v2", "--json")
    assert ran.code == 1, ran
    assert "already serves" in ran.error
    ran = small.noria("promote", "v9", "--json")
    assert ran.code == 2, ran
    assert "v9" in ran.error
    assert small.noria("audit", "verify", "--json").facts["ok"] is True


def test_a_release_is_reproduced(small: Small) -> None:
    into = small.home.parent / "again"
    ran = small.noria("reproduce", "v1", "--into", str(into), "--json")
    assert ran.code == 0, ran
    assert ran.facts["agrees"] is True
    assert ran.facts["bytes_agree"] is True
    assert ran.facts["environment"] == []
    ran = small.noria("reproduce", "v1", "--into", str(into), "--json")
    assert ran.code == 1, ran
    assert "not empty" in ran.error


def test_a_candidate_that_ends_its_process_is_rolled_back_and_fails_nobody(small: Small) -> None:
    """The candidate's features abort the interpreter on one value; the champion answers, and two deaths are enough."""
    small.edit("noria.yaml", "{rollout: direct}", CANARY.replace("20%, 100%", "50%, 100%"))
    small.edit("noria.yaml", 'train: "model:train"', 'train: "model:train"\n  features: "shape:features"')
    aborting = "    if (rows['a'] == 6.0).any():\n        os.abort()\n    return"
    small.write("shape.py", "import os\n\n" + HOSTED.replace("    return", aborting))
    small.commit("fatal candidate")
    with small.up().ready():
        address = address_of(small)

        def answered(a: float, variant: str) -> bool:
            status, answer = post(address, "/predict", ASK | {"a": a})
            assert status == 200, answer
            return bool(answer["variant"] == variant)

        log = small.state / "server.log"
        for life in (1, 2):  # while its host is down nobody asks: errors alone would end the rollout too
            until(lambda life=life: log.read_text().count("is ready") == life, "the candidate's host")
            until(lambda: answered(1.0, "candidate"), "the candidate answers")
            until(lambda: answered(6.0, "fallback"), "the champion answers for it")
        ended = until(lambda: outcome(small, "%fatal candidate%"), "the verdict")
        assert ended[0] == "rolled back", ended
        assert "crashed 2 processes (SIGABRT in its host)" in ended[1]
        assert small.champion() == "v1"
        assert answered(6.0, "champion")
