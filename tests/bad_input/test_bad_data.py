"""Data files gone wrong: what is refused is said, counted and kept; what was accepted stays."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import polars as pl
from small_project import HEAD, Small, csv_text, rows, until


def parquet(count: int = 300) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows(2, count), schema=list(HEAD), orient="row").write_parquet(buffer)
    return buffer.getvalue()


def texted() -> str:
    table = rows(2)
    table[7][1] = "about two"
    return csv_text(table)


def unlabelled() -> str:
    return csv_text([line[:3] for line in rows(2)], HEAD[:3])


BROKEN: dict[str, tuple[bytes, int, tuple[str, ...]]] = {  # name -> content, rows that can be counted, words
    "points-empty.csv": (b"", 0, ("is empty", "0 bytes")),
    "points-head-only.csv": (csv_text([]).encode(), 0, ("0 rows",)),
    "points-truncated.parquet": (parquet()[:-400], 0, ("cut off", "parquet")),
    "points-damaged.parquet": (parquet()[:4] + b"\0" * 500 + parquet()[504:], 0, ("not a readable parquet file",)),
    "points-text.csv": (texted().encode(), 300, ("a:", "float", "row 8 is no number")),
    "points-no-label.csv": (unlabelled().encode(), 300, ("y",)),
    "points-repeated.csv": (csv_text(rows(1)).encode(), 300, ("300 of 300 rows", "id", "accepted before")),
    "points-short-row.csv": (csv_text(rows(2)).encode() + b"7,1.0\n", 0, ("row 301", "2 values")),
}


def delivery(small: Small, name: str) -> dict[str, object]:
    """What `noria show` says of the newest delivery of this name, conserved: every row that came in is counted."""
    found = small.ledger("SELECT id FROM deliveries WHERE name = ? ORDER BY rowid DESC", f"data/{name}")[0][0]
    facts: dict[str, object] = small.noria("show", found, "--json").facts["delivery"]
    assert facts["rows_in"] == facts["rows_passed"] + facts["rows_quarantined"]  # type: ignore[operator]
    return facts


def test_broken_files_are_quarantined_with_every_row_counted(small: Small) -> None:
    small.edit("noria.yaml", "data/points-*.csv", "data/points-*.*")
    small.commit("any format")
    for name, (content, _, _) in BROKEN.items():
        small.deliver(name, content)
    ran = small.run()
    assert ran.code == 1, ran
    assert ran.facts["outcome"] == "quarantined"
    assert small.champion() == "v1"
    for name, (_, counted, words) in BROKEN.items():
        facts = delivery(small, name)
        assert (facts["accepted"], facts["rows_in"], facts["rows_quarantined"]) == (False, counted, counted), name
        said = f"{name} quarantined: {facts['reason']}"
        assert said in ran.facts["reason"]
        for word in words:
            assert word in said, said


def test_a_repaired_file_is_taken(small: Small) -> None:
    small.deliver("points-02.csv", texted())
    ran = small.run()
    assert ran.code == 1, ran
    assert "points-02.csv quarantined" in ran.facts["reason"]
    assert small.champion() == "v1"
    small.deliver("points-02.csv", csv_text(rows(2)))
    ran = small.run()
    assert ran.code == 0, ran
    assert ran.facts["outcome"] == "promoted"
    assert small.champion() == "v2"
    passed = small.ledger("SELECT name, rows_in, rows_passed, rows_quarantined, accepted FROM deliveries ORDER BY rowid")
    assert passed == [
        ("data/points-01.csv", 300, 300, 0, 1),
        ("data/points-02.csv", 300, 0, 300, 0),
        ("data/points-02.csv", 300, 300, 0, 1),
    ]


def test_one_class_and_no_label_end_with_words(small: Small) -> None:
    """A first model of one class cannot be; the words name the label and what was found."""
    small.write("contracts/points.yaml", "columns:\n  id: int\n")
    small.edit("noria.yaml", "points: {source: data/points-*.csv", "others: {source: data/other-*.csv")
    small.edit("noria.yaml", "rows: points", "rows: others")
    small.commit("another table")
    small.deliver("other-01.csv", csv_text([[*line[:3], 1] for line in rows(1)]))
    ran = small.run()
    assert ran.code == 1, ran
    assert ran.facts["outcome"] in ("step failed", "check failed")
    for word in ("y", "one class", "1"):
        assert word in ran.facts["reason"], ran.facts["reason"]
    assert small.champion() == "v1"
    small.deliver("other-01.csv", unlabelled())
    ran = small.run()
    assert ran.code == 1, ran
    assert "no column 'y'" in ran.facts["reason"], ran.facts["reason"]
    assert small.champion() == "v1"


def test_a_file_that_vanished_stays_in_the_snapshot(small: Small) -> None:
    (small.home / "data" / "points-01.csv").unlink()
    small.edit("model.py", "LogisticRegression()", "LogisticRegression(C=0.3)")
    small.commit("less freedom")
    ran = small.run()
    assert ran.code == 0, ran
    assert ran.facts["release"] == "v2", "trained on the version that was accepted"
    data = small.noria("show", "v2", "--json").facts["data"]
    assert [(f["name"], f["rows"]) for f in data["points"]["files"]] == [("data/points-01.csv", 300)]


def test_half_copied_files_wait_and_a_growing_one_is_taken_when_it_rests(small: Small) -> None:
    """A temporary name is none of the data; a file that is being written is taken once, whole."""
    text = csv_text(rows(2))
    small.write("data/points-03.csv.part", text[:900])
    small.write("data/.points-04.csv.partial", text[:900])
    with small.up().ready():
        with (small.home / "data" / "points-02.csv").open("w") as file:
            for begin in range(0, len(text), len(text) // 12):
                file.write(text[begin : begin + len(text) // 12])
                file.flush()
                os.fsync(file.fileno())
                time.sleep(0.1)  # the writer's own pace: 1.2 s, in pieces that come faster than a file may rest
        until(lambda: small.ledger("SELECT 1 FROM turns WHERE number = 3 AND outcome = 'promoted'"), "the turn of the whole file")
    found = small.ledger("SELECT name, rows_in, accepted FROM deliveries WHERE name <> 'data/points-01.csv'")
    assert found == [("data/points-02.csv", 300, 1)]


def test_a_full_disk_ends_in_words_and_the_next_run_works(small: Small) -> None:
    """A limit on the size of a file stands for the disk: the kernel refuses the write of a blob half way."""
    small.deliver("points-02.csv", csv_text(rows(2, 60_000)))
    size = (small.home / "data" / "points-02.csv").stat().st_size
    ran = small.noria("run", "--json", preexec=lambda: limit(size // 2))
    assert ran.code == 4, ran
    said = json.dumps(ran.facts)
    assert "disk is full" in said
    assert "Free some space" in said
    assert not [p for p in (small.state / "blobs").rglob("*") if p.is_file() and Path(p).stat().st_size == size // 2]
    assert small.champion() == "v1"
    ran = small.run()
    assert ran.code == 0, ran
    assert ran.facts["release"] == "v2"


def limit(size: int) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
