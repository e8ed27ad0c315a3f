"""Columns of a terminal stand under each other whatever script their texts are in."""

from __future__ import annotations

import click
import pytest
from rich.cells import cell_len

from noria.cli.output import cells_of, fill, pairs, table


@pytest.mark.parametrize("text", ["plain", "größe", "高さ", "cafe\u0301", "한국어", "ｆｕｌｌ", "→ –", "a\u034fb", "x\u0488", ""])
def test_the_width_is_the_one_that_rich_knows(text: str) -> None:
    assert cells_of(text) == cell_len(text)
    assert cell_len(fill(text, 12)) == 12


def test_the_second_column_of_a_table_begins_in_one_place() -> None:
    lines = table(["column", "type"], [["größe 高さ", "float"], ["id", "int"]]).splitlines()
    assert {cell_len(line[: line.index(word)]) for line, word in zip(lines[1:], ["float", "int"], strict=True)} == {11 + 1}
    told = click.unstyle(pairs([("高さ", "one"), ("id", "two")])).splitlines()
    assert {cell_len(line[: line.index(word)]) for line, word in zip(told, ["one", "two"], strict=True)} == {4 + 2}
