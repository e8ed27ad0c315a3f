"""What changed from one table to another, in order of effect, and which of it is more than chance.

Every effect lies between 0 and 1 and is a share of rows or cells: total variation distance for values that repeat,
Kolmogorov-Smirnov distance for numbers, times and lengths, the difference of two shares for empty cells, the relative difference
for rows; of a distance the part that chance gives on average is taken off.

What is ``beyond_chance`` is decided over all tests of a comparison together: the probability that any of them is chance is at
most 1 % (Holm), where the rows of both tables are drawn independently from one source. ``stats.two_samples`` names the tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace

from noria.data.table_change import ChangeKind, TableChange, TableDifference
from noria.kernel.words import day, number, percent, plural
from noria.stats import two_samples
from noria.stats.two_samples import Floats

ALPHA = 0.01  # the probability that any difference of one comparison is called more than chance, and is not
FEW_VALUES = 20  # whole numbers with at most so many different values are compared value by value
FREE_FROM, FREE_SHARE = 50, 0.5  # different texts, also as a share of the rows, above which they hardly repeat
NAMED = 3  # values that a sentence names
NAMED_ROWS = 5  # rows that a value must stand in to be named
NAMED_SHARE = 0.01  # of the most frequent value: where it is rarer, values are counted and not named
LISTED = 100  # values that came or went which are listed
MISSING = "–"
BORDERS = (0.05, 0.5, 0.95)  # quantiles that describe a distribution


class ColumnPair(msgspec.Struct, frozen=True):
    """The values of one column in both tables, without empty cells; ``rows``: effective ones."""

    name: str
    before: pl.Series
    after: pl.Series
    rows: float


def judge(before: pl.DataFrame, after: pl.DataFrame, shared: int = 0) -> TableDifference:
    """The differences of two tables. ``shared``: that many first rows of both are the same ones, as in versions of a dataset."""
    found = [*_shape(before, after), *_volume(before.height, after.height, shared)]
    not_compared: dict[str, str] = {}
    if before.height and after.height:
        for name in before.columns:
            if name in after.columns:
                found += _column(before[name], after[name], shared, not_compared)
    tested = [place for place, change in enumerate(found) if change.p_value is not None]
    certain = two_samples.holm([found[place].p_value or 0.0 for place in tested], ALPHA)
    for place, is_certain in zip(tested, certain, strict=True):
        found[place] = replace(found[place], beyond_chance=is_certain)
    touched = {change.column for change in found}
    equal = tuple(name for name in before.columns if name in after.columns and name not in touched and name not in not_compared)
    return TableDifference(before.height, after.height, tuple(sorted(found, key=_order)), equal, not_compared)


def _order(change: TableChange) -> tuple[bool, float, int, str]:
    return (not change.beyond_chance, -round(change.effect, 6), list(ChangeKind).index(change.kind), change.column)


# --- schema and volume


def _shape(before: pl.DataFrame, after: pl.DataFrame) -> Iterator[TableChange]:
    for name in before.columns:
        if name not in after.columns:
            yield _of_schema(name, ChangeKind.DROPPED, _described(before[name]), MISSING, "the column is gone")
        else:
            yield from _type(before[name], after[name])
    for name in after.columns:
        if name not in before.columns:
            yield _of_schema(name, ChangeKind.ADDED, MISSING, _described(after[name]), "the column is new")
    first, second = ([n for n in one.columns if n in other.columns] for one, other in ((before, after), (after, before)))
    if first != second:
        moved = [name for name, other in zip(first, second, strict=True) if name != other]
        text = f"{plural(len(moved), 'column')} stand elsewhere: {_some(moved)}"
        yield _of_schema("", ChangeKind.REORDERED, _some(first), _some(second), text, effect=0.0)


def _of_schema(name: str, kind: ChangeKind, before: str, after: str, text: str, effect: float = 1.0) -> TableChange:
    return TableChange(name, kind, "schema", effect, before, after, text)


def _type(before: pl.Series, after: pl.Series) -> Iterator[TableChange]:
    types = type_word(before.dtype), type_word(after.dtype)
    if types[0] == types[1] or pl.Null in (before.dtype, after.dtype):
        return
    effect, text = 1.0, f"the type is {types[1]}, it was {types[0]}"
    if set(types) == {"int", "float"}:
        decimals = _numbers(before if types[0] == "float" else after)
        effect = float((decimals != np.floor(decimals)).mean()) if len(decimals) else 0.0
        text += f"; {percent(effect)} of the decimals are no whole numbers"
    yield _of_schema(before.name, ChangeKind.RETYPED, *types, text, effect)


def type_word(dtype: pl.DataType) -> str:
    """A column's type as contracts and people call it; Polars' own name for others."""
    if dtype.is_integer():
        return "int"
    if dtype.is_numeric():
        return "float"
    if isinstance(dtype, pl.Datetime):
        return f"datetime in {dtype.time_zone}" if dtype.time_zone else "datetime"
    known = {"String": "string", "Categorical": "string", "Enum": "string", "Boolean": "bool", "Date": "date", "Null": "empty"}
    return known.get(str(dtype.base_type()), str(dtype))


def _described(column: pl.Series) -> str:
    empty = _empty(column)
    return type_word(column.dtype) + (f", {percent(empty / len(column))} empty" if empty else "")


def _volume(before: int, after: int, shared: int) -> Iterator[TableChange]:
    if before == after:
        return
    effect = abs(after - before) / max(before, after)
    share = abs(after - before) / before if before else 1.0
    text = f"{percent(share)} {'more' if after > before else 'fewer'} rows" if before else "there were no rows"
    p_value = two_samples.count_p_value(before - shared, after - shared)
    yield TableChange(
        "", ChangeKind.VOLUME, "relative difference", effect, plural(before, "row"), plural(after, "row"), text, p_value=p_value
    )


# --- one column of both tables


def _column(before: pl.Series, after: pl.Series, shared: int, not_compared: dict[str, str]) -> Iterator[TableChange]:
    yield from _nulls(before, after, shared)
    words = [type_word(column.dtype).split()[0] for column in (before, after)]
    both_numbers = set(words) <= {"int", "float"}
    if "empty" in words:
        return
    if not both_numbers and words[0] != words[1] and set(words) != {"date", "datetime"}:
        not_compared[before.name] = "its type changed"
        return
    filled = [_filled(column) for column in (before, after)]
    if not len(filled[0]) or not len(filled[1]):
        return
    common = len(_filled(before.head(shared)))
    pair = ColumnPair(before.name, filled[0], filled[1], two_samples.effective_rows(len(filled[0]), len(filled[1]), common))
    if words[0] in ("date", "datetime"):
        yield from _times(pair)
    elif both_numbers:
        yield from _counts(pair) if _is_countable(pair) else _amounts(pair)
    elif words[0] in ("string", "bool"):
        yield from _lengths(pair) if _is_free(pair) else _counts(pair)
    else:
        not_compared[before.name] = f"values of type {words[0]} are not compared"


def _empty(column: pl.Series) -> int:
    return column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)


def _filled(column: pl.Series) -> pl.Series:
    return (column.fill_nan(None) if column.dtype.is_float() else column).drop_nulls()


def _nulls(before: pl.Series, after: pl.Series, shared: int) -> Iterator[TableChange]:
    empty = _empty(before), _empty(after)
    shares = empty[0] / len(before), empty[1] / len(after)
    if shares[0] == shares[1]:
        return
    rows = two_samples.effective_rows(len(before), len(after), shared)
    yield TableChange(
        before.name,
        ChangeKind.NULLS,
        "difference of shares",
        abs(shares[1] - shares[0]),
        f"{percent(shares[0])} empty",
        f"{percent(shares[1])} empty",
        f"{empty[0]:,} of {plural(len(before), 'cell')}, now {empty[1]:,} of {len(after):,}",
        p_value=two_samples.share_p_value((empty[0], len(before)), (empty[1], len(after)), rows),
        numbers={"before": shares[0], "after": shares[1]},
    )


# --- values that repeat


def _is_countable(pair: ColumnPair) -> bool:
    """Numbers that stand for classes, months and the like: whole, and few different ones."""
    both = np.unique(np.concatenate([_numbers(pair.before), _numbers(pair.after)]))
    return len(both) <= FEW_VALUES and bool((both == np.floor(both)).all())


def _is_free(pair: ColumnPair) -> bool:
    return any(one.n_unique() > max(FREE_FROM, FREE_SHARE * len(one)) for one in (pair.before, pair.after))


def _counts(pair: ColumnPair) -> Iterator[TableChange]:
    counted = _counted(pair)
    before, after = (counted[side].to_numpy().astype(np.float64) for side in ("before", "after"))
    distance = two_samples.total_variation(before, after)
    if distance <= 0:
        return
    came, went = counted.filter(pl.col("before") == 0), counted.filter(pl.col("after") == 0)
    yield TableChange(
        pair.name,
        ChangeKind.CATEGORIES,
        "total variation distance",
        max(0.0, distance - two_samples.chance_of_total_variation(before, after, pair.rows)),
        _most_frequent(counted, "before"),
        _most_frequent(counted, "after"),
        _moves(counted, came, went),
        p_value=two_samples.homogeneity_p_value(before, after, pair.rows),
        numbers={
            "total_variation": distance,
            "jensen_shannon": two_samples.jensen_shannon(before, after),
            "values_before": float((before > 0).sum()),
            "values_after": float((after > 0).sum()),
            "share_of_came": float(came["after"].sum() / after.sum()),
            "share_of_went": float(went["before"].sum() / before.sum()),
        },
        came=tuple(came.sort(pl.col("after"), descending=True, maintain_order=True)["value"].head(LISTED)),
        went=tuple(went.sort(pl.col("before"), descending=True, maintain_order=True)["value"].head(LISTED)),
    )


def _counted(pair: ColumnPair) -> pl.DataFrame:
    """Each value as text with its counts, in the order of values."""
    sides = []
    for side, values in (("before", pair.before), ("after", pair.after)):
        texts = pl.Series("value", [number(v) for v in _numbers(values)]) if values.dtype.is_numeric() else values.cast(pl.String)
        sides.append(texts.alias("value").value_counts(name=side))
    joined = sides[0].join(sides[1], on="value", how="full", coalesce=True).fill_null(0)
    return joined.with_columns(pl.col("before", "after").cast(pl.Int64)).sort("value")


def _most_frequent(counted: pl.DataFrame, side: str) -> str:
    total, values = int(counted[side].sum()), int((counted[side] > 0).sum())
    ordered = counted.filter(pl.col(side) >= min(NAMED_ROWS, total)).sort(pl.col(side), descending=True, maintain_order=True)
    top = [(value, count / total) for value, count in ordered.select("value", side).head(NAMED).rows()]
    if not top or top[0][1] < NAMED_SHARE:
        return plural(values, "value")
    shown = [f"{_short(value)}: {percent(share)}" for value, share in top]
    return ", ".join(shown) + (f", {values - len(shown):,} more" if values > len(shown) else "")


def _moves(counted: pl.DataFrame, came: pl.DataFrame, went: pl.DataFrame) -> str:
    """The value whose share moved most, and those that came and went."""
    totals = int(counted["before"].sum()), int(counted["after"].sum())
    shares = counted.with_columns(pl.col("before") / totals[0], pl.col("after") / totals[1])
    stayed = shares.filter(
        (counted["before"] > 0) & (counted["after"] > 0) & (counted["before"] + counted["after"] >= NAMED_ROWS)
    )
    words = []
    if stayed.height:
        value, first, second = max(stayed.rows(), key=lambda row: abs(row[2] - row[1]))
        if first != second:
            words.append(f"{_short(value)}: {percent(first)} → {percent(second)}")
    for part, side, verb, total in ((came, "after", "is new", totals[1]), (went, "before", "is gone", totals[0])):
        if part.height:
            words.append(_new_or_gone(part, side, verb, total))
    return "; ".join(words)


def _new_or_gone(part: pl.DataFrame, side: str, verb: str, total: int) -> str:
    share = percent(int(part[side].sum()) / total)
    first = part.sort(pl.col(side), descending=True, maintain_order=True)["value"].head(NAMED).to_list()
    if part.height == 1:
        return f"{_short(first[0])} {verb} ({share} of the rows)"
    return f"{plural(part.height, 'value')} {verb.replace('is', 'are')} ({_some(first, part.height)}; {share} of the rows)"


# --- numbers, times and lengths


def _numbers(values: pl.Series) -> Floats:
    return np.asarray(values.cast(pl.Float64).to_numpy(), dtype=np.float64)


def _amounts(pair: ColumnPair) -> Iterator[TableChange]:
    before, after = _numbers(pair.before), _numbers(pair.after)
    change = _distribution(pair, ChangeKind.NUMBERS, before, after)
    if change is None:
        return
    infinite = int(np.isinf(before).sum()), int(np.isinf(after).sum())
    note = f"; infinite: {infinite[0]:,}, now {infinite[1]:,}" if any(infinite) else ""
    yield replace(change, before=_spread(before), after=_spread(after), text=_direction(before, after) + note)


def _distribution(pair: ColumnPair, kind: ChangeKind, before: Floats, after: Floats) -> TableChange | None:
    distance = two_samples.kolmogorov_smirnov(before, after)
    if distance <= 0:
        return None
    numbers = {"kolmogorov_smirnov": distance}
    finite = before[np.isfinite(before)], after[np.isfinite(after)]
    if len(finite[0]) and len(finite[1]):
        numbers["wasserstein"] = two_samples.wasserstein(*finite)
        numbers |= {"mean_before": float(finite[0].mean()), "mean_after": float(finite[1].mean())}
    numbers |= {"median_before": _quantiles(before)[1], "median_after": _quantiles(after)[1]}
    effect = max(0.0, distance - two_samples.chance_of_kolmogorov_smirnov(pair.rows))
    p_value = two_samples.kolmogorov_smirnov_p_value(distance, pair.rows)
    known = {name: value for name, value in numbers.items() if np.isfinite(value)}
    return TableChange(pair.name, kind, "Kolmogorov-Smirnov distance", effect, "", "", "", p_value=p_value, numbers=known)


def _quantiles(values: Floats) -> list[float]:
    """Values that occur: no mean of two, which would be no day or no number between infinities."""
    return [float(value) for value in np.quantile(values, BORDERS, method="lower")]


def _spread(values: Floats) -> str:
    low, middle, high = _quantiles(values)
    return f"median {_amount(middle)}, 90 % in {_amount(low)} to {_amount(high)}"


def _amount(value: float) -> str:
    return number(value) if np.isfinite(value) else "inf" if value > 0 else "-inf"


def _direction(before: Floats, after: Floats) -> str:
    """In which way the numbers moved: up or down where most of the movement goes one way, else wider or narrower."""
    finite = before[np.isfinite(before)], after[np.isfinite(after)]
    if not len(finite[0]) or not len(finite[1]):
        return "the finite numbers are gone" if len(finite[0]) else "there were no finite numbers"
    moved, shift = two_samples.wasserstein(*finite), float(finite[1].mean() - finite[0].mean())
    by = f"by {_amount(moved)} on average"
    if abs(shift) >= moved / 2 and moved > 0:
        return f"{'higher' if shift > 0 else 'lower'} {by}"
    (low, _, high), (new_low, _, new_high) = (_quantiles(one) for one in finite)
    word = "wider" if new_high - new_low > high - low else "narrower" if new_high - new_low < high - low else "of another shape"
    return f"{word}, values move {by}"


def _times(pair: ColumnPair) -> Iterator[TableChange]:
    before, after = (_seconds(values) for values in (pair.before, pair.after))
    change = _distribution(pair, ChangeKind.TIMES, before, after)
    if change is None:
        return
    spans = [(float(one.min()), float(one.max())) for one in (before, after)]
    word = "later" if after.mean() > before.mean() else "earlier"
    if spans[1][0] > spans[0][1] or spans[1][1] < spans[0][0]:
        text = f"{word}; no time in one lies within the other"
    else:
        inside = float(((after >= spans[0][0]) & (after <= spans[0][1])).mean())
        text = f"{word} on average; {percent(inside)} lie between the first and the last time of before"
    yield replace(change, before=_span(*spans[0]), after=_span(*spans[1]), text=text)


def _seconds(values: pl.Series) -> Floats:
    return _numbers(values.cast(pl.Datetime("us", getattr(values.dtype, "time_zone", None))).dt.epoch("us")) / 1e6


def _span(first: float, last: float) -> str:
    return f"{_moment(first)} to {_moment(last)}"


def _moment(at: float) -> str:
    try:
        return day(at)
    except (OverflowError, ValueError, OSError):
        return f"{number(at / 31_556_952 + 1970)} (year)"  # beyond what the clock's functions know


def _lengths(pair: ColumnPair) -> Iterator[TableChange]:
    texts = pair.before.cast(pl.String), pair.after.cast(pl.String)
    before, after = (_numbers(one.str.len_chars()) for one in texts)
    known = float(texts[1].is_in(texts[0].unique().implode()).mean() or 0.0)  # type: ignore[arg-type]  # of truth values
    change = _distribution(pair, ChangeKind.LENGTHS, before, after)
    if change is None:
        return
    words = [
        f"{one.n_unique():,} different, {number(sizes.min())} to {number(sizes.max())} characters"
        for one, sizes in zip(texts, (before, after), strict=True)
    ]
    text = f"{_direction(before, after)}; {percent(known)} of the texts were there before"
    yield replace(change, before=words[0], after=words[1], text=text)


def _some(texts: list[str], total: int | None = None) -> str:
    shown = [_short(text) for text in texts[:NAMED]]
    more = (len(texts) if total is None else total) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
