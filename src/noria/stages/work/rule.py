"""Compute one rule of a contract: `python -m noria.stages.work.rule FOLDER`, with table.arrow and rule.sql in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl

from noria.adapters.executors import leftovers
from noria.decide.contract import compute
from noria.domain.expression import UncomputedError


def main(folder: Path) -> None:
    leftovers.die_with_parent()
    table = pl.read_ipc(folder / "table.arrow")
    answer: dict[str, object] = {"ok": True}
    try:
        holds = compute((folder / "rule.sql").read_text(encoding="utf-8"), table)
        pl.DataFrame({"noria_holds": holds}).write_ipc(folder / "holds.arrow")
    except UncomputedError as error:
        answer = {"error": str(error)[:2000]}
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
