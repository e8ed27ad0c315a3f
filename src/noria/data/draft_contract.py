"""Drafts a contract from the rows of a dataset, with room for rows that nobody has seen yet.

The room, and why:
- A range has its whole span more on both sides, since the rows that were seen hold neither the smallest nor the largest value to
  come. Of the 132 pairs of months of the flights example, 2 lie outside the draft of the other month (14 with half of the room).
  What was never negative stays so.
- Empty cells may be twice as many as in the worst file and 5 points more; none stays none.
- A file may have a tenth of the rows of the smallest file.
- A few texts become ``values`` only where each stands in at least three rows and 1 % of them: where some are rare, the next file
  has others (Good, Biometrika 40, 1953).
- Texts of one shape get a ``pattern``: letters and digits in the same order in 50 rows or more.
- One value alone, as the year in a file of one year, promises nothing.
The draft accepts every file that it was made from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec
import polars as pl

from noria.data.formats import delimited
from noria.data.judge_column_types import Undecided
from noria.data.table import Column, ColumnKind
from noria.kernel.contract import ColumnRule, Contract
from noria.kernel.words import day, number, percent, plural

VALUES_MOST = 20  # different texts that are still a list of values ...
VALUES_LEAST, VALUES_SHARE = 3, 0.01  # ... if each stands in so many rows, and in such a share of them
ROOM = 1.0  # spans that a range gets more on both sides
YEARS = 1900, 2100  # whole numbers in between may be years, which take no comma
ROWS_MIN_MOST = 1000  # that a draft asks a file for
PATTERN_ROWS = 50  # that show one shape before it is promised
SHAPES_MOST = 200  # of different lengths
PARTS_MOST = 12  # runs of letters, digits and other signs in a shape
CLASSES = {"A": "[A-Z]", "a": "[a-z]", "9": "[0-9]"}
SIGNS = frozenset("-_/:@ .")  # that a shape may hold beside letters and digits
KEY_NAME = re.compile(r"(^|[_ .-])(?i:id|key|uuid|number|nr|no|code)$|[a-z](ID|Id|Key)$")


class ColumnDraft(msgspec.Struct, frozen=True):
    """One column's promise, and in words what was seen."""

    rule: ColumnRule
    seen: str


class ContractDraft(msgspec.Struct, frozen=True):
    """A contract, and what was seen of each column and of the rows."""

    contract: Contract
    columns: tuple[ColumnDraft, ...]
    rows: str


def draft(
    table: pl.DataFrame,
    heights: Sequence[int] = (),
    *,
    types: dict[str, Column] | None = None,
    undecided: dict[str, Undecided] | None = None,
    label: str | None = None,
    classes: bool = False,
) -> ContractDraft:
    """The contract of a table, whose rows come from files of these ``heights``, one below the other; of one file if left out.

    ``types``: how dates are written; ``undecided``: dates that may be read in two ways. ``label``: a column that is no key;
    with ``classes`` all its values are promised.
    """
    heights = tuple(heights) or (table.height,)
    key = key_column(table, but=label)
    columns = tuple(
        draft_column(
            table[name],
            heights,
            written=(types or {}).get(name, Column()).format,
            undecided=(undecided or {}).get(name),
            is_class=classes and name == label,
            counts=name == key or is_row_number(table[name]),
        )
        for name in table.columns
    )
    least = min(heights)
    promised = Contract(
        columns=tuple(one.rule for one in columns),
        unique=((key,),) if key else (),
        rows_min=min(least, max(1, min(least // 10, ROWS_MIN_MOST))),
    )
    rows = f"{table.height:,}" if len(heights) == 1 else f"{least:,} to {max(heights):,} in {plural(len(heights), 'file')}"
    return ContractDraft(promised, columns, rows)


def key_column(table: pl.DataFrame, but: str | None = None) -> str | None:
    """The column that names a row: unique, without nulls, and called so, a text, or a count that stands first.

    Another whole number that happens to be unique is an amount.
    """
    if table.height < 2:
        return None
    texts_or_counts = [c for c in table.get_columns() if c.dtype == pl.String or c.dtype.is_integer()]
    unique = [
        c
        for c in texts_or_counts
        if c.name != but and c.null_count() == 0 and c.n_unique() == table.height and not is_row_number(c)
    ]
    named = [c.name for c in unique if KEY_NAME.search(c.name)]
    texts = [c.name for c in unique if c.dtype == pl.String and c.name == table.columns[0]]
    counts = [c.name for c in unique if c.name == table.columns[0] and c.dtype.is_integer() and _is_count(c)]
    return next(iter([*named, *texts, *counts]), None)


def is_row_number(column: pl.Series) -> bool:
    """Whether the file did not name the column, and it counts rows: the index that pandas writes."""
    return column.name == delimited.UNNAMED.format(1) and column.dtype.is_integer() and _is_count(column)


def _is_count(column: pl.Series) -> bool:
    return bool((column.diff().drop_nulls() == 1).all())


# --- one column


def draft_column(
    column: pl.Series,
    heights: Sequence[int] = (),
    *,
    written: str = "",
    undecided: Undecided | None = None,
    is_class: bool = False,
    counts: bool = False,
) -> ColumnDraft:
    """The promise of a column. ``written``: the format of its dates; ``is_class``: all values are promised; ``counts``: it names
    or numbers rows, so that later ones lie outside of what was seen."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    kind, filled = kind_of(column.dtype), column.drop_nulls()
    share = _worst_share(column, tuple(heights) or (len(column),)) if len(column) else 1.0
    low = high = None
    values = None
    if is_class or _is_listed(kind, filled, counts):
        values = tuple(sorted({_text(value) for value in filled.unique().to_list()}))
    elif kind in (ColumnKind.INT, ColumnKind.FLOAT) and not counts:
        low, high = _range(filled, whole=kind == ColumnKind.INT)
    may_be_date = undecided is not None  # a pattern of text would stand in the way of the format that a person names
    pattern = _pattern(filled) if kind is ColumnKind.STRING and values is None and not may_be_date else None
    temporal = kind in (ColumnKind.DATE, ColumnKind.DATETIME)
    rule = ColumnRule(
        column.name,
        kind,
        _nulls(share),
        low,
        high,
        values or None,
        format=written or None if temporal else None,
        pattern=pattern,
    )
    notes = [_seen(kind, filled), f"{percent(column.null_count() / len(column))} empty" if share and len(filled) else ""]
    notes += ["names a row" if counts and not is_row_number(column) else ""]
    if undecided is not None:
        choices = " or ".join(f'format: "{one}"' for one in undecided.formats)
        notes = [f"{undecided.example} may be day or month first: say {choices} in place of the type"]
    return ColumnDraft(rule, "; ".join(filter(None, notes)))


def kind_of(dtype: pl.DataType) -> ColumnKind | None:
    """The contract's word for a column type; None where it has none."""
    if dtype.is_integer():
        return ColumnKind.INT
    if dtype.is_float() or dtype == pl.Decimal:
        return ColumnKind.FLOAT
    known: dict[type[pl.DataType], ColumnKind] = {
        pl.String: ColumnKind.STRING,
        pl.Categorical: ColumnKind.STRING,
        pl.Enum: ColumnKind.STRING,
        pl.Boolean: ColumnKind.BOOL,
        pl.Datetime: ColumnKind.DATETIME,
        pl.Date: ColumnKind.DATE,
    }
    return known.get(type(dtype))


def _worst_share(column: pl.Series, heights: Sequence[int]) -> float:
    """The largest share of empty cells in any file: a contract is held against each by itself."""
    begin, worst = 0, 0.0
    for height in heights:
        if height:
            worst = max(worst, column.slice(begin, height).null_count() / height)
        begin += height
    return worst


def _nulls(share: float) -> float:
    return min(100, math.ceil(share * 200) + 5) / 100 if share else 0.0


def _is_listed(kind: ColumnKind | None, filled: pl.Series, counts: bool) -> bool:
    if kind is not ColumnKind.STRING or counts or not len(filled):
        return False
    occurrences = filled.cast(pl.String).value_counts(name="n")["n"]
    return 2 <= len(occurrences) <= VALUES_MOST and int(occurrences.min() or 0) >= max(VALUES_LEAST, VALUES_SHARE * len(filled))  # type: ignore[arg-type]  # counts


def _pattern(filled: pl.Series) -> str | None:
    """The regular expression of texts that all have one shape; None where they have several, or are words of any length."""
    if len(filled) < PATTERN_ROWS or filled.n_unique() <= VALUES_MOST:
        return None
    texts = filled.cast(pl.String).unique()
    shapes = texts.str.replace_all("[A-Z]", "A").str.replace_all("[a-z]", "a").str.replace_all("[0-9]", "9").unique()
    if len(shapes) > SHAPES_MOST:
        return None
    runs = [[(part[0], len(part)) for part, _ in re.findall(r"((.)\2*)", shape, re.DOTALL)] for shape in shapes.to_list()]
    signs = {tuple(sign for sign, _ in one) for one in runs}
    (order, *others) = signs
    if others or not 0 < len(order) <= PARTS_MOST or not set(order) <= SIGNS | CLASSES.keys():
        return None
    lengths = [{one[place][1] for one in runs} for place in range(len(order))]
    if "9" not in order and any(len(seen) > 1 for seen in lengths):
        return None
    return "".join(_run(sign, seen) for sign, seen in zip(order, lengths, strict=True))


def _run(sign: str, lengths: set[int]) -> str:
    found = CLASSES.get(sign, re.escape(sign) if sign == "." else sign)
    (length, *others) = lengths
    return f"{found}+" if others else found if length == 1 else f"{found}{{{length}}}"


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _range(filled: pl.Series, *, whole: bool) -> tuple[float | None, float | None]:
    """The whole span as room on both sides; what was never negative stays so. None where one value, or an infinite one, tells
    nothing."""
    numbers = filled.cast(pl.Float64)
    if not len(numbers) or numbers.is_infinite().any():
        return None, None
    low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]  # both are of floats
    room = high * ROOM - low * ROOM
    if low == high or not (math.isfinite(low - room) and math.isfinite(high + room)):
        return None, None
    lowest = max(0.0, low - room) if low >= 0 else low - room
    bounds = _round(lowest, math.floor), _round(high + room, math.ceil)
    if whole:  # the same promise, in whole numbers
        bounds = float(math.ceil(bounds[0])), float(math.floor(bounds[1]))
    return bounds if all(map(math.isfinite, bounds)) else (None, None)


def _round(value: float, towards: object) -> float:
    """Three significant digits, outwards."""
    if abs(value) < 1e-300 or not callable(towards):
        return 0.0 if abs(value) < 1e-300 else value
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{towards(value / unit) * unit:.12g}")


def _seen(kind: ColumnKind | None, filled: pl.Series) -> str:
    """What was seen of the values; of texts that may be anybody's only how many there are, and how long."""
    if not len(filled):
        return "no value"
    if kind in (ColumnKind.INT, ColumnKind.FLOAT):
        low, high = (float(value) for value in (filled.cast(pl.Float64).min(), filled.cast(pl.Float64).max()))  # type: ignore[arg-type]  # both are of floats
        years = kind is ColumnKind.INT and low >= YEARS[0] and high <= YEARS[1]
        first, last = (f"{value:.0f}" if years else _amount(value) for value in (low, high))
        return f"always {first}" if low == high else f"{first} to {last}"
    if kind is ColumnKind.BOOL:
        return f"{percent(float(filled.mean() or 0.0))} true"  # type: ignore[arg-type]  # of truth values
    if kind in (ColumnKind.DATE, ColumnKind.DATETIME):
        return _span(filled)
    if kind is ColumnKind.STRING:
        texts = filled.cast(pl.String)
        lengths = texts.str.len_chars()
        short, long = (int(value) for value in (lengths.min(), lengths.max()))  # type: ignore[arg-type]  # both are counts
        size = f"{short:,}" if short == long else f"{short:,} to {long:,}"
        return f"{texts.n_unique():,} different, {size} characters"
    return f"of type {filled.dtype}, which a contract does not name"


def _amount(value: float) -> str:
    return number(value) if math.isfinite(value) else str(value)


def _span(filled: pl.Series) -> str:
    at = filled.cast(pl.Datetime("us", getattr(filled.dtype, "time_zone", None))).dt.epoch("us") / 1e6
    first, last = (day(float(value)) for value in (at.min(), at.max()))  # type: ignore[arg-type]  # both are of floats
    return first if first == last else f"{first} to {last}"
