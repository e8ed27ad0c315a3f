"""Are there personal data in a table? Says of which kind, in which columns and in how many rows; never a value. Pure.

Each kind has a cheap pattern, which Polars holds against the unique values of a column, and a check of what passes it: checksums,
the formats of python-stdnum and phonenumbers, lists of words. A column is reported when enough of its values pass; how many are
enough depends on how often chance passes the check, on whether the column is called so, and on whether the values stand alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import msgspec
import polars as pl

from noria.data.personal_kinds import KINDS, NAMED_PREFILTERS, VERSION_NAMES, KindPatterns, Sight, is_named, spoken_name
from noria.kernel.contract import PersonalDataKind, PersonalDataRule
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import plural

ROWS_MOST = 100_000  # of a larger table as many are looked at, chosen evenly
CHECKED_MOST = 1_000  # unique values of a column that are checked for a kind; of more, a part, and counts are extrapolated
TEXT_MOST = 4_000  # characters of a value that are looked at
SEED = 13
CODE = "contract.personal_data"
Kind = PersonalDataKind


class PersonalDataFinding(msgspec.Struct, frozen=True):
    """A kind of personal data in a column. ``rows``: how many hold it, of ``of`` that were looked at, of ``total``."""

    column: str
    kind: PersonalDataKind
    rows: int
    of: int
    total: int
    in_text: bool = False  # among other words
    about: bool = False  # ``rows`` is extrapolated from a part of the values
    countries: tuple[str, ...] = ()  # whose national ids they may be

    def words(self) -> str:
        """One sentence without values."""
        about = "about " if self.about else ""
        place = f"{self.column} (inside text)" if self.in_text else self.column
        sort = f" ({', '.join(self.countries)})" if self.countries else ""
        sampled = f" that were looked at, of {self.total:,}" if self.of < self.total else ""
        return f"{place}: {self.kind.words}{sort} in {about}{self.rows:,} of {plural(self.of, 'row')}{sampled}"


class ColumnSight(msgspec.Struct, frozen=True):
    """What a column shows of one kind, in rows; ``sorts`` and ``distinct`` count unique values."""

    filled: int
    looks: int = 0
    found: int = 0
    alone: int = 0  # of ``found``: the value is nothing else
    distinct: int = 0  # unique values that are of the kind
    distinct_looks: int = 0
    sorts: Counter[str] = Counter()
    checked_share: float = 1.0

    @property
    def share(self) -> float:
        """Of the filled rows."""
        return self.found / self.filled if self.filled else 0.0

    @property
    def valid(self) -> float:
        """Of what looks like it."""
        return self.distinct / self.distinct_looks if self.distinct_looks else 0.0


def find(
    table: pl.DataFrame, kinds: Collection[PersonalDataKind] = tuple(Kind), total: int | None = None
) -> tuple[PersonalDataFinding, ...]:
    """What there is in a table, or in a part of one with ``total`` rows, by column in the table's order.

    Streets bear the names of persons: addresses count as addresses alone.
    """
    some = table if table.height <= ROWS_MOST else table.sample(ROWS_MOST, seed=SEED)
    found = [one for column in some.get_columns() for one in _of_column(column, kinds, total or table.height)]
    streets = {one.column for one in found if one.kind is Kind.ADDRESS} | {c for c in some.columns if is_named(Kind.ADDRESS, c)}
    return tuple(
        one for one in found if one.kind is not Kind.NAME or one.column not in streets or is_named(Kind.NAME, one.column)
    )


def forbidden(rule: PersonalDataRule, found: Sequence[PersonalDataFinding]) -> list[PersonalDataFinding]:
    """Those that the contract forbids and does not allow in their column."""
    return [one for one in found if one.kind in rule.forbid and one.column not in rule.allow.get(one.kind, ())]


def judge(rule: PersonalDataRule, table: pl.DataFrame, total: int | None = None) -> tuple[Reason, ...]:
    """A reason for each kind in each column that the contract forbids; none where the table keeps to it."""
    reasons = []
    for one in forbidden(rule, find(table, rule.forbid, total)):
        numbers = {"rows": float(one.rows), "looked_at": float(one.of), "total": float(one.total)}
        reasons.append(Reason(CODE, f"{one.words()}, which the contract forbids", Outcome.FAIL, numbers))
    return tuple(reasons)


def _of_column(column: pl.Series, kinds: Collection[PersonalDataKind], total: int) -> Iterator[PersonalDataFinding]:
    if column.dtype in (pl.Date, pl.Datetime):
        filled = column.len() - column.null_count()
        if Kind.BIRTH_DATE in kinds and filled and is_named(Kind.BIRTH_DATE, column.name):
            yield PersonalDataFinding(column.name, Kind.BIRTH_DATE, filled, column.len(), total)
        return
    values = _values(column)
    if values is None or values.is_empty():
        return
    for kind in Kind:
        if kind in kinds and (found := _of_kind(kind, column.name, values)) is not None:
            sight, in_text = found
            if kind is Kind.PHONE and _is_number_column(column):
                continue
            about = sight.checked_share < 1
            countries = tuple(country for country, _ in sight.sorts.most_common(1)) if kind is Kind.NATIONAL_ID else ()
            rows = min(sight.filled, round(sight.found / sight.checked_share))
            yield PersonalDataFinding(column.name, kind, rows, column.len(), total, in_text, about, countries)


def _values(column: pl.Series) -> pl.DataFrame | None:
    """The unique filled values as text, each with its rows. None of types that hold no personal data by themselves."""
    if column.dtype.is_float():  # a column of whole numbers with gaps; others hold amounts
        whole = column.drop_nulls()
        whole = whole.filter(whole.is_finite())
        if whole.is_empty() or (whole != whole.floor()).any() or whole.abs().max() >= 2**63:  # type: ignore[operator]  # it is a number
            return None
        column = whole.cast(pl.Int64)
    if column.dtype.is_integer() or column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return None
    text = column.alias("value").str.slice(0, TEXT_MOST)
    return text.to_frame().group_by("value", maintain_order=True).len("rows").filter(pl.col("value").str.strip_chars() != "")


def _is_number_column(column: pl.Series) -> bool:
    """Numbers below zero, or with a point, stand among the values: then a plus sign is no country code."""
    if column.dtype != pl.String:
        return column.dtype.is_numeric() and not is_named(Kind.PHONE, column.name)
    return bool(column.str.contains(r"^-\d+(\.\d+)?$|^\+?\d{1,6}\.\d+$").any())


def _of_kind(kind: PersonalDataKind, column: str, values: pl.DataFrame) -> tuple[ColumnSight, bool] | None:
    """What the column shows when that is enough, and whether it stands inside text."""
    named = is_named(kind, column)
    sight = _sight(KINDS[kind], NAMED_PREFILTERS.get(kind) if named else None, values, named, kind is Kind.NATIONAL_ID)
    if not sight.found:
        return None
    in_text = sight.alone < sight.found / 2
    enough = _is_enough_in_text(kind, sight) if in_text else _is_enough(kind, sight, named, column)
    return (sight, in_text) if enough else None


def _sight(patterns: KindPatterns, plainer: str | None, values: pl.DataFrame, named: bool, by_sort: bool) -> ColumnSight:
    filled = int(values["rows"].sum())
    candidates = values.filter(pl.col("value").str.contains(plainer or patterns.prefilter))
    if candidates.is_empty():
        return ColumnSight(filled)
    share = 1.0
    if candidates.height > CHECKED_MOST:
        part = candidates.sample(CHECKED_MOST, seed=SEED)
        share = float(part["rows"].sum()) / float(candidates["rows"].sum())
        candidates = part
    seen = [(patterns.see(value, named), rows) for value, rows in candidates.iter_rows()]
    sorts = Counter(sort for one, _ in seen if one.found for sort in one.sorts)
    if by_sort and sorts:  # the ids of one country, not of whichever fits
        best = sorts.most_common(1)[0][0]
        seen = [(one if best in one.sorts else Sight(one.looks, 0, whole=one.whole), rows) for one, rows in seen]
        sorts = Counter({best: sorts[best]})
    return ColumnSight(
        filled,
        looks=sum(rows for one, rows in seen if one.looks),
        found=sum(rows for one, rows in seen if one.found),
        alone=sum(rows for one, rows in seen if one.found and one.whole),
        distinct=sum(1 for one, _ in seen if one.found),
        distinct_looks=sum(1 for one, _ in seen if one.looks),
        sorts=sorts,
        checked_share=share,
    )


def _is_enough(kind: PersonalDataKind, sight: ColumnSight, named: bool, column: str) -> bool:
    """Whether values that stand alone make their column one of this kind."""
    share = sight.share / sight.checked_share
    cued = sight.sorts["cue"] >= sight.distinct / 2
    match kind:
        case Kind.EMAIL:
            return True  # nothing else is written so
        case Kind.IBAN:
            return sight.valid >= 0.5  # chance passes one in 97 of what looks like one
        case Kind.CARD:  # chance passes one in ten of what looks like one
            return sight.valid >= 0.8 and (named or cued or (sight.distinct >= 5 and share >= 0.5))
        case Kind.PHONE:
            return sight.valid >= 0.5 and share >= (0.3 if named else 0.5) and (named or cued)
        case Kind.IP_ADDRESS:
            return sight.valid >= 0.5 and (named or VERSION_NAMES.search(spoken_name(column)) is None)
        case Kind.NATIONAL_ID:
            return sight.valid >= 0.7 and share >= 0.5 if named else _are_ids(sight, share)
        case Kind.ADDRESS:
            plain = sight.sorts["plain"] > sight.distinct / 2
            return share >= 0.6 if plain else share >= (0.2 if named else 0.3)
        case Kind.BIRTH_DATE:
            return named and share >= 0.5
        case Kind.NAME:
            return _are_names(sight, named, share)


def _are_ids(sight: ColumnSight, share: float) -> bool:
    """In a column of another name nearly all values must pass, and there must be enough of them that chance does not do it."""
    return sight.valid >= 0.9 and share >= 0.9 and sight.distinct >= 5


def _are_names(sight: ColumnSight, named: bool, share: float) -> bool:
    given = sight.sorts["given"]
    if named:
        return share >= 0.8 and (given >= 0.05 * sight.distinct or sight.distinct >= 10)
    return share >= 0.3 and given >= 5


def _is_enough_in_text(kind: PersonalDataKind, sight: ColumnSight) -> bool:
    """Whether what stands among other words is of this kind."""
    match kind:
        case Kind.EMAIL | Kind.BIRTH_DATE:
            return True
        case Kind.CARD:
            return sight.valid >= 0.5 and (sight.sorts["cue"] > 0 or sight.distinct >= 5)
        case Kind.NAME:
            return sight.distinct >= 5
        case Kind.ADDRESS:
            return sight.distinct >= 2
        case _:
            return sight.valid >= 0.5
