"""Which rows of a file that breaks its contract may be dropped, so that the others are accepted? Pure.

A row that fails by itself is dropped first, with the rows of its dataset that refer to it; what compares rows with each other,
such as a key that repeats, is then asked of the rows that remain. So a row is the repeat of one that is accepted, never of one
that is dropped, and the answer is the same however the rows are spread over files. What remains must meet the whole contract.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import polars as pl

from noria.data.judge_contract import ContractRuling
from noria.data.snapshot import RefusalReason
from noria.kernel.contract import Contract
from noria.kernel.words import percent, plural

Judge = Callable[[Contract, pl.DataFrame], ContractRuling]
ROW = "noria_row"  # the place of a row in its file, while rows of two rounds are put in order
ROUNDS_MOST = 20  # in which rows are dropped since those that they refer to were


class DroppedRows(msgspec.Struct, frozen=True):
    """What is dropped of a file. ``failing``: the dropped rows in their order, each with all its reasons."""

    good: pl.Series  # of all rows, true where one is accepted
    failing: pl.DataFrame
    reasons: tuple[RefusalReason, ...]
    text: str


class NotDropped(msgspec.Struct, frozen=True):
    """Why the file is refused whole, in words that follow the reasons of its refusal; empty where they say enough."""

    text: str = ""
    good: None = None


def judge(
    contract: Contract, table: pl.DataFrame, refused: ContractRuling, again: Judge, dataset: str = ""
) -> DroppedRows | NotDropped:
    """Divide a file of ``dataset`` that its contract refused. ``again`` holds rows against a contract as
    ``judge_contract.judge`` does.

    Raises what ``again`` raises.
    """
    most = contract.drop_rows
    if most is None or refused.verdict.passed or _is_about_the_file(refused):
        return NotDropped()
    by_themselves = _without_comparisons(contract)
    first = refused if by_themselves == contract else again(by_themselves, table)
    if _is_about_the_file(first):
        return NotDropped()
    places = pl.int_range(table.height, eager=True, dtype=pl.UInt32)
    left, rounds = places, list[tuple[ContractRuling, pl.Series]]()
    while (bad := _marks(first, len(left))).any():
        rounds.append((first, left.filter(bad)))
        left = left.filter(~bad)
        if table.height - len(left) > most * table.height:
            return NotDropped(_too_many(table.height - len(left), table.height, most))
        if all(one.dataset != dataset for one in contract.references):
            break
        if len(rounds) == ROUNDS_MOST:
            return NotDropped(f"rows refer to rows that fail, over more than {ROUNDS_MOST} others")
        first = again(by_themselves, table[left])  # rows may refer to those that were dropped
    rest = table[left]
    second = again(contract, rest)
    if _is_about_the_file(second):
        return NotDropped(f"without the rows that fail, {second.verdict.sentence()}")
    repeated, last = _marks(second, rest.height), second
    if repeated.any():
        last = again(contract, rest.filter(~repeated))
        if not last.verdict.passed:
            return NotDropped(f"without the rows that fail, {last.verdict.sentence()}")
    good = places.is_in(left.filter(~repeated).implode())
    count = table.height - int(good.sum())
    if count > most * table.height:
        return NotDropped(_too_many(count, table.height, most))
    rounds.append((second, left.filter(repeated)))
    failing = _in_order(rounds)
    reasons = tuple(reason for ruling, _ in rounds for reason in _broken(ruling))
    why = "; ".join([*(one.text for one in reasons), *(warning.text for warning in last.warnings)])
    text = f"{table.height - count:,} rows meet the contract; {_share(count, table.height)} were dropped: {why}"
    return DroppedRows(good, failing, reasons, text)


def _too_many(count: int, rows: int, most: float) -> str:
    return f"{_share(count, rows)} fail; drop_rows allows at most {percent(most)}"


def _share(count: int, rows: int) -> str:
    return f"{count:,} of {plural(rows, 'row')} ({percent(count / rows)})"


def _is_about_the_file(ruling: ContractRuling) -> bool:
    """Whether a promise is broken that no single rows are to blame for."""
    return any(one.rows is None for one in _broken(ruling))


def _broken(ruling: ContractRuling) -> tuple[RefusalReason, ...]:
    return () if ruling.verdict.passed else ruling.reasons


def _without_comparisons(contract: Contract) -> Contract:
    """What the contract asks of each row by itself, and of what it refers to."""
    return msgspec.structs.replace(contract, unique=(), order=None)


def _marks(ruling: ContractRuling, height: int) -> pl.Series:
    if ruling.verdict.passed or ruling.mask is None:
        return pl.repeat(False, height, eager=True)
    return ruling.mask


def _in_order(parts: list[tuple[ContractRuling, pl.Series]]) -> pl.DataFrame:
    """The failing rows of several rounds in the order of the file."""
    found = [ruling.failing.with_columns(rows.alias(ROW)) for ruling, rows in parts if len(rows)]
    if not found:
        return parts[0][0].failing.head(0)
    return pl.concat(found).sort(ROW).drop(ROW)
