"""Codes keep their zeros: 007, 7 and 0007 are three accounts, and the account is the key."""

from __future__ import annotations

from typing import Any


def walk(case: Any) -> None:
    case.copy("accounts.csv")
    made = case.noria_json("init", "--data", "accounts.csv", "--label", "churned")
    assert made["key"] == "account"
    assert made["inputs"] == ["zip", "tenure", "fee"]
    assert "account string, zip string, tenure int, fee float" in case.noria("check", "--no-tests")
    case.write("noria.yaml", "project: p\ndata: {accounts: accounts.csv}\n")
    assert "account string (leading zeros), zip string (leading zeros)" in case.noria("check")
