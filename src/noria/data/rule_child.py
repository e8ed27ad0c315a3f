"""Compute one rule of a contract: `python -m noria.data.rule_child FOLDER`, with table.arrow and rule.sql in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl

from noria.data.judge_rules import compute
from noria.kernel import orphans
from noria.kernel.expression import UncomputedError


def main(folder: Path) -> None:
    orphans.die_with_parent()
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
