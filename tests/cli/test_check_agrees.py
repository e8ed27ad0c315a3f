"""`noria check` says of a file what the turn will say of it: whether it repeats rows of others, and how old it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_line import SmallLine, points, small_line

from noria.cli import execute
from noria.data.store import DataStore


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallLine]:
    with small_line(tmp_path) as made:
        monkeypatch.setenv("NORIA_HOME", str(made.context.state))
        monkeypatch.chdir(made.home)
        yield made


@pytest.fixture
def checked(line: SmallLine, capsys: pytest.CaptureFixture[str]):
    def check() -> dict[str, tuple[bool, str]]:
        capsys.readouterr()
        execute(["check", "--no-tests", "--json"])
        found = json.loads(capsys.readouterr().out)["findings"]
        return {Path(each["what"]).name: (each["ok"], each["text"]) for each in found if each["what"].endswith(".csv")}

    return check


def judged(line: SmallLine) -> dict[str, tuple[bool, str]]:
    """What the turn said, newest delivery of each file."""
    line.turned()
    found: dict[str, tuple[bool, str]] = {}
    for one in DataStore(line.ledger, "p").deliveries(50):
        found.setdefault(Path(one.name).name, (one.accepted, one.reason))
    return found


def test_new_files_may_not_repeat_each_other(line: SmallLine, checked) -> None:
    line.deliver("points-01.csv", points(1))
    line.deliver("points-02.csv", points(1))
    found = checked()
    assert found["points-01.csv"][0]
    assert found["points-02.csv"] == (False, "200 of 200 rows repeat the (id) of a row that was accepted before")
    assert found == judged(line)


def test_a_new_file_may_not_repeat_an_accepted_one(line: SmallLine, checked) -> None:
    line.deliver("points-02.csv", points(2))
    judged(line)
    line.deliver("points-01.csv", points(2))  # it stands before the accepted one by name
    found = checked()
    assert found["points-02.csv"][0]  # accepted already, and not judged again
    assert found["points-01.csv"] == (False, "200 of 200 rows repeat the (id) of a row that was accepted before")
    assert found == judged(line)


def test_a_new_version_of_a_file_may_repeat_the_old_one_alone(line: SmallLine, checked) -> None:
    line.deliver("points-01.csv", points(1))
    line.deliver("points-02.csv", points(2))
    judged(line)
    line.deliver("points-01.csv", points(1, 150))
    found = checked()
    assert all(ok for ok, _ in found.values()), found
    assert found == judged(line) | {"points-02.csv": found["points-02.csv"]}
    line.deliver("points-01.csv", points(2))
    assert not checked()["points-01.csv"][0]


def test_an_accepted_file_that_is_gone_counts(line: SmallLine, checked) -> None:
    line.deliver("points-01.csv", points(1))
    judged(line)
    (line.home / "data" / "points-01.csv").unlink()
    line.deliver("points-02.csv", points(1))
    assert checked()["points-02.csv"] == judged(line)["points-02.csv"]


def test_by_a_key_a_file_may_repeat_rows(line: SmallLine, checked) -> None:
    line.edit("noria.yaml", "contract: contracts/points.yaml", "contract: contracts/points.yaml, key: [id]")
    line.commit("a key")
    line.deliver("points-01.csv", points(1))
    line.deliver("points-02.csv", points(1))
    found = checked()
    assert all(ok for ok, _ in found.values()), found
    assert found == judged(line)


def test_a_new_file_is_to_be_fresh_and_an_accepted_one_was(line: SmallLine, checked) -> None:
    text = (line.home / "contracts" / "points.yaml").read_text()
    line.write("contracts/points.yaml", f"{text}freshness: {{column: at, within: 2d}}\n")
    line.commit("fresh")
    line.clock(datetime(2023, 1, 3, tzinfo=UTC).timestamp())
    line.deliver("points-01.csv", dated(points(1), "2023-01-02"))
    assert checked()["points-01.csv"][0]
    judged(line)
    line.clock(datetime(2023, 1, 20, tzinfo=UTC).timestamp())
    line.deliver("points-02.csv", dated(points(2), "2023-01-02"))
    found = checked()
    assert found["points-01.csv"][0]
    assert found["points-02.csv"] == (False, "at: the newest row is 18 d old; the contract allows 2 d")
    assert found == judged(line)


def dated(text: str, day: str) -> str:
    head, *rows = text.splitlines()
    return "\n".join([f"{head},at", *(f"{row},{day}" for row in rows)]) + "\n"
