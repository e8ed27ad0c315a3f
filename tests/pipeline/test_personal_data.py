"""Personal data are reported without a value, and a contract can forbid them."""

from __future__ import annotations

import sqlite3

import pytest
from place import InnerPlace, Place
from test_data_commands import CONTRACT, PROJECT, rows

SECRET = "jane.roe@mail.example"


@pytest.fixture
def place(inner_place: InnerPlace) -> Place:
    return inner_place


def customers(first: int, count: int) -> str:
    head, _, body = rows(first, count).partition("\n")
    lines = body.splitlines()
    return "\n".join([f"{head},contact", *(f"{line},{SECRET if at % 2 else ''}" for at, line in enumerate(lines))]) + "\n"


def test_forbidden_personal_data_quarantine_a_file_and_no_value_is_told(place: Place) -> None:
    place.put("noria.yaml", PROJECT).put("contracts/points.yaml", CONTRACT).put(".gitignore", ".noria\nmade\ndata\n")
    place.put("data/a.csv", customers(0, 10)).commit()
    told = place.noria("check", "--no-tests")
    assert "holds personal data that no contract speaks of: contact: email addresses in 5 of 10 rows" in told

    place.put("contracts/points.yaml", CONTRACT + "personal_data: {forbid: all, allow: {phone: [contact]}}\n")
    told += place.noria("check", "--no-tests", code=1)
    assert "no contract speaks of" not in told.partition("contracts/points.yaml")[2]
    assert "contact: email addresses in 5 of 10 rows, which the contract forbids" in told
    (found,) = place.json("data", "personal", "points")["files"]
    assert [(one["column"], one["kind"], one["rows"], one["forbidden"]) for one in found["findings"]] == [
        ("contact", "email", 5, True)
    ]
    told += place.noria("data", "personal", "data/a.csv") + place.noria("run", code=1) + place.noria("data", "quarantine")
    (refused,) = place.json("data", "quarantine")["refused"]
    assert refused["reason"] == "contact: email addresses in 5 of 10 rows, which the contract forbids"
    assert refused["sample"] is False
    assert "there is no dataset and no file" in place.noria("data", "personal", "pionts", code=2)

    place.put("contracts/points.yaml", CONTRACT + "personal_data: {forbid: all, allow: {email: [contact]}}\n")
    told += place.noria("run", code=None)
    assert "a.csv accepted" in place.noria("audit", "log")
    assert SECRET not in told
    with sqlite3.connect(place.home / ".noria/ledger.db") as ledger:
        assert SECRET not in "\n".join(ledger.iterdump())
