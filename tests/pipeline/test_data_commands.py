"""`noria data`: versions listed, compared, copied out, pinned, exported, verified, erased, in real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from place import Place

PROJECT = """\
project: words
data:
  points: {source: "data/*.csv", contract: contracts/points.yaml}
steps:
  sum: {cmd: "cat $(echo $NORIA_INPUT_POINTS | tr : ' ') | wc -l > made/sum.txt", deps: [points], outs: [made/sum.txt]}
"""
CONTRACT = "columns:\n  id: {type: int, nulls: never}\n  x: {type: float, range: [0, 100]}\n"


def rows(first: int, count: int, x: float = 1.5) -> str:
    return "id,x\n" + "".join(f"{n},{x}\n" for n in range(first, first + count))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Three versions of a dataset: two files, then one more, then one changed and one gone."""
    place = Place(tmp_path_factory.mktemp("made"))
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put(".gitignore", ".noria\nmade\ndata\n")
    place.put("data/a.csv", rows(0, 10)).put("data/b.csv", rows(10, 20)).commit()
    place.noria("run")
    place.put("data/c.csv", rows(100, 5)).noria("run")
    place.put("data/b.csv", rows(10, 30)).noria("run")
    return place


@pytest.fixture
def words(made: Place, copied: Callable[[Place], Place]) -> Place:
    """Three versions of a dataset: two files, then one more, then one changed and one gone."""
    return copied(made)


def log(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = place.json("data", "log", "points")["snapshots"]
    return found


def blob(place: Place, digest: str) -> Path:
    return place.home / ".noria/blobs" / digest[:2] / digest


def test_versions_are_listed_and_compared(words: Place) -> None:
    found = log(words)
    assert [(v["files"], v["rows"], v["current"]) for v in found] == [(3, 45, True), (3, 35, False), (2, 30, False)]
    assert found[2]["size_bytes"] == len(rows(0, 10)) + len(rows(10, 20))
    third, second, first = (v["digest"] for v in found)
    told = words.json("data", "diff", first[:8], "points")
    assert (told["files"], told["rows"]) == (1, 15)
    assert [f["name"] for f in told["added"]] == ["data/c.csv"]
    assert [(c["name"], c["before"]["rows"], c["after"]["rows"]) for c in told["changed"]] == [("data/b.csv", 20, 30)]
    assert [f["name"] for f in words.json("data", "diff", second, first)["removed"]] == ["data/c.csv"]
    said = words.noria("data", "diff", first[:8], third[:8])
    assert "1 added, 0 removed, 1 changed; +15 rows" in said
    assert "the same version" in words.noria("data", "diff", third, "points")
    assert told["content"]["rows_before"] == 30
    moved = next(one for one in told["content"]["changes"] if one["column"] == "id")
    assert (moved["measure"], moved["beyond_chance"]) == ("Kolmogorov-Smirnov distance", False)  # 30 of the rows are the same
    assert told["content"]["equal"] == ["x"]
    assert "content" not in words.noria("data", "diff", first, third, "--files")
    beside = words.json("data", "diff", "points", "data/a.csv")
    assert (beside["before"]["dataset"], beside["after"]["file"], "added" in beside) == ("points", "data/a.csv", False)
    assert "now" in words.noria("data", "log").splitlines()[1]


def test_a_version_that_is_not_there_is_named_with_its_nearest(words: Place) -> None:
    assert "Did you mean 'points'" in words.noria("data", "diff", "point", "points", code=2)
    assert "there is no snapshot 0000" in words.noria("data", "checkout", "0000", "--into", "out", code=2)
    assert "there is no release v7" in words.noria("data", "checkout", "points@v7", "--into", "out", code=2)
    assert words.json("data", "log", "pionts", code=2)["error"]["hint"] == "Did you mean 'points'?"


@pytest.mark.parametrize("link", ["reflink", "hardlink", "copy"])
def test_a_version_is_checked_out_under_its_names(words: Place, link: str) -> None:
    first = log(words)[2]["digest"]
    done = words.json("data", "checkout", first[:12], "--into", "old", "--link", link)
    assert (done["written"], done["same"]) == (2, 0)
    assert words.read("old/data/b.csv") == rows(10, 20)
    assert words.read("data/b.csv") == rows(10, 30), "the project's own file is another"
    assert sorted(p.name for p in (words.home / "old/data").iterdir()) == ["a.csv", "b.csv"]
    shared = (words.home / "old/data/a.csv").stat().st_nlink > 1
    assert shared == (link == "hardlink")
    assert bool((words.home / "old/data/a.csv").stat().st_mode & 0o222) == (link != "hardlink")
    again = words.json("data", "checkout", first[:12], "--into", "old", "--link", link)
    assert (again["written"], again["same"]) == (0, 2)


def test_a_checkout_never_overwrites_unasked_and_never_leaves_its_folder(words: Place, tmp_path: Path) -> None:
    words.put("old/data/b.csv", "mine").put("old/data/other.txt", "mine, too")
    said = words.noria("data", "checkout", "points", "--into", "old", code=1)
    assert "these exist and differ: data/b.csv" in said
    assert not (words.home / "old/data/a.csv").exists(), "nothing is written before all is well"
    words.noria("data", "checkout", "points", "--into", "old", "--force")
    assert words.read("old/data/b.csv") == rows(10, 30)
    assert words.read("old/data/other.txt") == "mine, too"
    (tmp_path / "elsewhere").mkdir()
    (words.home / "trap").mkdir()
    (words.home / "trap/data").symlink_to(tmp_path / "elsewhere")
    assert "leads out of the folder" in words.noria("data", "checkout", "points", "--into", "trap", "--force", code=1)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    words.put("file/data", "a file where a folder belongs")
    assert "there is a file where a folder is needed" in words.noria("data", "checkout", "points", "--into", "file", code=1)
    target = words.home / "linked/data/a.csv"
    target.parent.mkdir(parents=True)
    target.symlink_to(words.home / "data/a.csv")  # the link is replaced, what it leads to is not written
    words.noria("data", "checkout", "points", "--into", "linked", code=1)
    words.noria("data", "checkout", "points", "--into", "linked", "--force")
    assert not target.is_symlink()
    assert "Noria's own folder" in words.noria("data", "checkout", "points", "--into", ".noria/x", code=2)


def test_a_version_is_pinned_and_let_go(words: Place) -> None:
    first = log(words)[2]["digest"]
    words.noria("data", "pin", first[:10], "baseline")
    words.noria("data", "pin", first, "baseline")  # the same once more
    assert log(words)[2]["pinned"] == ["baseline"]
    assert "is pinned to another" in words.noria("data", "pin", "points", "baseline", code=1)
    for name in ("points", "v3", "cafe", "Upper", "a b"):
        words.noria("data", "pin", "points", name, code=2)
    assert words.json("data", "checkout", "baseline", "--into", "old")["snapshot"]["digest"] == first
    assert words.json("data", "unpin", "baseline")["digest"] == first
    assert "there is no pin baseline" in words.noria("data", "unpin", "baseline", code=2)
    told = [e["kind"] for e in words.json("audit", "log")["events"]]
    assert (told.count("data.pinned"), told.count("data.unpinned")) == (1, 1)


def damage(place: Place, digest: str) -> None:
    path = blob(place, digest)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_file_is_found_named_and_put_back_from_its_source(words: Place) -> None:
    whole = words.json("data", "verify")
    assert (whole["ok"], whole["findings"], whole["bundles"]) == (True, [], {})
    assert whole["blobs"] > 5
    words.noria("data", "pin", "points", "held")
    versions = log(words)
    pin = next(f for f in words.json("data", "diff", versions[2]["digest"], "points")["added"] if f["name"] == "data/c.csv")
    damage(words, pin["digest"])
    (finding,) = words.json("data", "verify")["findings"]
    assert (finding["state"], finding["cure"], finding["where"]) == ("damaged", "put back", "data/c.csv")
    assert finding["files"] == [{"dataset": "points", "name": "data/c.csv"}]
    assert sorted(finding["snapshots"]) == sorted(v["digest"] for v in versions[:2])
    assert finding["pinned"] == ["held"]
    assert len(finding["runs"]) == 2
    assert blob(words, pin["digest"]).read_text() == rows(100, 5)
    assert [p.name[:64] for p in (words.home / ".noria/damaged").iterdir()] == [pin["digest"]]
    assert words.json("data", "verify")["findings"] == []


def test_a_damaged_file_that_is_nowhere_else_is_lost_and_said_so(words: Place) -> None:
    first = log(words)[2]["digest"]
    changed = words.json("data", "diff", first, "points")["changed"][0]["before"]
    damage(words, changed["digest"])  # the source holds other bytes under that name now
    said = words.noria("data", "verify", code=1)
    assert "data/b.csv of points" in said
    assert f"snapshot {first[:12]}" in said
    assert said.count("lost") == 1
    told = words.json("data", "verify", code=1)["findings"]
    assert [(f["state"], f["cure"]) for f in told] == [("missing", "lost")]
    assert "no longer in the store" in words.noria("data", "checkout", first, "--into", "old", code=1)
    assert words.json("run")["outcome"] == "nothing changed", "the newest version is whole"


def test_a_damaged_result_of_a_step_is_put_back_or_made_again(words: Place) -> None:
    words.put("data/d.csv", rows(500, 1)).noria("run")
    content = words.read("made/sum.txt")
    (digest,) = [p.name for p in (words.home / ".noria/blobs").glob("??/*") if p.read_bytes() == content.encode()]
    damage(words, digest)
    (finding,) = words.json("data", "verify")["findings"]
    assert (finding["cure"], finding["where"], finding["steps"]) == ("put back", "made/sum.txt", ["sum"])
    damage(words, digest)
    (words.home / "made/sum.txt").unlink()
    (finding,) = words.json("data", "verify")["findings"]
    assert finding["cure"] == "made again by the next run that needs it"
    assert words.states()["sum"] == ("ran", "its result is gone")
    assert words.read("made/sum.txt") == content
    assert words.json("data", "verify")["findings"] == []
