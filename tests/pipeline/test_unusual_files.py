"""A file that is unusual beside the accepted ones is accepted with a warning, or quarantined where the contract says so."""

from __future__ import annotations

import random
import sqlite3

from place import Place
from test_data_commands import CONTRACT, PROJECT


def month(seed: int, empty: float = 0.0) -> str:
    rng = random.Random(seed)
    values = ["" if rng.random() < empty else f"{rng.gauss(50, 5):.3f}" for _ in range(200)]
    return "id,x\n" + "".join(f"{seed * 1000 + at},{value}\n" for at, value in enumerate(values))


def test_unusual_files_are_told_and_refused_where_the_contract_says_so(place: Place) -> None:
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT + "anomalies: {false_alarm: 1%}\n")
    place.put(".gitignore", ".noria\nmade\ndata\n").commit()
    for number in range(1, 10):
        place.put(f"data/{number:02}.csv", month(number))
    assert "not enough history: 0 of 8 batches" in place.noria("check", "--no-tests")
    place.noria("run")
    with sqlite3.connect(place.home / ".noria/ledger.db") as ledger:
        assert ledger.execute("SELECT count(*), sum(unusual) FROM batch_facts").fetchone() == (9, 0)

    place.put("data/10.csv", month(10, empty=0.4))
    (warned,) = [one for one in place.json("check", "--no-tests")["findings"] if one["what"] == "data/10.csv"]
    assert (warned["level"], "unusual beside 9 accepted batches: nulls of x: " in warned["text"]) == ("warn", True)
    place.noria("run")
    assert "10.csv accepted: 200 rows meet the contract; warning: unusual beside 9 accepted batches" in place.noria(
        "audit", "log"
    )

    place.put("contracts/points.yaml", CONTRACT + "anomalies: {severity: quarantine}\n").put("data/11.csv", month(11, empty=0.4))
    place.noria("run", code=1)
    (refused,) = place.json("data", "quarantine")["refused"]
    assert refused["reason"].startswith("unusual beside 9 accepted batches: nulls of x: ")
    place.noria("data", "erase", "data/09.csv", "--yes")
    with sqlite3.connect(place.home / ".noria/ledger.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM batch_facts WHERE name = 'data/09.csv'").fetchone() == (0,)
