"""What Excel writes (cp1252, semicolons, decimal commas) is drafted as it is written; without `csv:` the hint says the key."""

from __future__ import annotations

from typing import Any


def walk(case: Any) -> None:
    case.copy("excel.csv")
    case.noria("init", "--data", "excel.csv", "--label", "gekündigt")
    policy = (case.home / "noria.yaml").read_text(encoding="utf-8")
    assert "csv: {separator: ;, encoding: cp1252, decimal: ','}" in policy
    assert "kundennr string, größe int, tarif string, preis float, gekündigt int" in case.noria("check", "--no-tests")
    case.write("noria.yaml", "project: p\ndata: {excel: excel.csv}\n")
    said = case.noria("check", code=1)
    assert "encoding: cp1252" in said
    case.write("noria.yaml", "project: p\ndata: {excel: {source: excel.csv, csv: {encoding: cp1252}}}\n")
    assert 'separator: ";"' in case.noria("check", code=1)
    case.write("noria.yaml", "project: p\ndata: {excel: {source: excel.csv, csv: {encoding: cp1252, separator: ';'}}}\n")
    assert "preis string" in case.noria("check")
