"""How many step processes wait for work: the usual number, or what the machine's owner says."""

from __future__ import annotations

import json

import pytest
from place import Place

from noria.engine.assembly import warm_pool_size
from noria.kernel.errors import UsageError


@pytest.mark.parametrize(("said", "usual", "kept"), [(None, 6, 6), (None, 0, 1), ("2", 6, 2), ("0", 6, 0)])
def test_what_is_said_counts(monkeypatch: pytest.MonkeyPatch, said: str | None, usual: int, kept: int) -> None:
    monkeypatch.delenv("NORIA_WARM", raising=False)
    if said is not None:
        monkeypatch.setenv("NORIA_WARM", said)
    assert warm_pool_size(usual) == kept


@pytest.mark.parametrize("said", ["", "-1", "two", "1.5", "²"])
def test_what_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("NORIA_WARM", said)
    with pytest.raises(UsageError) as told:
        warm_pool_size(6)
    assert told.value.message == f"NORIA_WARM must be a whole number, got {said!r}"


@pytest.mark.parametrize("said", ["65", "9" * 5000])
def test_more_processes_than_any_machine_holds_are_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("NORIA_WARM", said)
    with pytest.raises(UsageError, match="NORIA_WARM must be a whole number from 0 to 64, got '"):
        warm_pool_size(6)


@pytest.mark.parametrize("warm", ["0", "2"])
def test_steps_run_whether_any_waits_or_none(place: Place, warm: str) -> None:
    place.put("noria.yaml", 'project: p\nsteps:\n  one: {call: "work:one"}\n  two: {call: "work:two"}\n')
    place.put("work.py", "import polars as pl\ndef one(): return pl.DataFrame({'a': [1]})\ndef two(one): return one\n")
    place.put(".gitignore", ".noria\n").commit()
    process = place.start("run", "--json", env={"NORIA_WARM": warm})
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    assert {step["name"]: step["state"] for step in json.loads(out)["steps"]} == {"one": "ran", "two": "ran"}
