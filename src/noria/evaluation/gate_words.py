"""What gates say of measurements, and the bounds that they move: shared by the judges of gates."""

from __future__ import annotations

from noria.evaluation.judge_sample_size import groups_remedy
from noria.kernel.policy import Gate
from noria.kernel.verdict import Outcome, Reason
from noria.kernel.words import plural, plurals
from noria.stats import student
from noria.stats.measures import DAY, LEAST_GROUPS, STRETCH, Comparison, Measure

ROWS = 50
EACH_CLASS = 10
NOTABLE = 1.05  # bounds that are less widened are not worth a word


def lack_words(n: int, positives: int | None = None) -> str:
    """What there is too little of, or an empty text. ``positives`` is None where the task has no positive class."""
    if n < ROWS:
        return f"{plural(n, 'row')}; a gate needs {ROWS}"
    if positives is not None and min(positives, n - positives) < EACH_CLASS:
        return f"{positives:,} positive and {n - positives:,} negative rows; a gate needs {EACH_CLASS} of each"
    return ""


def number_words(value: float, threshold: float) -> str:
    """Three decimals, or as many more as it takes to show on which side of the threshold the value lies."""
    for digits in range(3, 10):
        text = f"{value:,.{digits}f}"
        shown = float(text.replace(",", ""))
        if (shown > threshold) == (value > threshold) and (shown < threshold) == (value < threshold):
            return text
    return repr(value)


def bounds_words(measure: Measure) -> str:
    return f"(95 % bounds {measure.low:,.3f} to {measure.high:,.3f}, {rows_words(measure)})"


def rows_words(found: Measure | Comparison) -> str:
    """``6,012 rows in 7 days, which make bounds 2.1 times as wide as of independent rows``."""
    if found.groups is None:
        return plural(found.n, found.counts)
    words = f"{plural(found.n, found.counts)} in {_groups_words(found.groups, found.unit)}"
    if found.widened is None or found.widened < NOTABLE:
        return words
    return f"{words}, which make bounds {found.widened:.2g} times as wide as of independent {plurals(found.counts)}"


def _groups_words(groups: int, unit: str | None) -> str:
    if unit == DAY:
        return plural(groups, "day")
    if unit == STRETCH:
        return f"{groups} stretches of time (fewer than {LEAST_GROUPS} days)"
    return f"{plural(groups, 'group')} by {unit}"


def units(found: Measure | Comparison) -> tuple[int, str]:
    """What a remedy counts: groups where they widen the bounds, else rows."""
    if found.groups is None or found.unit == STRETCH or (found.widened or 1.0) < NOTABLE:
        return found.n, f"labelled {found.counts}"
    return found.groups, found.unit if found.unit == DAY else "group"


def has_few_groups(found: Measure | Comparison) -> bool:
    """Whether the rows that count are in so few groups that these do not tell how groups differ."""
    return found.groups is not None and found.groups < LEAST_GROUPS


def few_groups_reason(gate: Gate, found: Measure | Comparison) -> Reason:
    groups = found.groups or 0
    text = f"{gate.metric} is measured on rows of {_groups_words(groups, found.unit)}; a gate needs {LEAST_GROUPS}"
    remedy = groups_remedy(groups, LEAST_GROUPS, DAY if found.unit == DAY else "group")
    return undecided_reason("too_few_groups", text, remedy, n=found.n, groups=groups)


def few_units_reason(gate: Gate, found: Measure | Comparison) -> Reason | None:
    """Where something else than rows is counted, and there are too few."""
    if found.counts == "row" or found.n >= ROWS:
        return None
    text = f"{gate.metric} is measured on {plural(found.n, found.counts)}; a gate needs {ROWS}"
    return undecided_reason("too_few", text, f"about {plural(ROWS - found.n, f'more labelled {found.counts}')}", n=found.n)


def undecided_reason(code: str, text: str, remedy: str = "", **numbers: float) -> Reason:
    found = {name: float(value) for name, value in numbers.items()}
    return Reason(f"gate.{code}", text, Outcome.NOT_ENOUGH_DATA, found, remedy)


def move_bounds(value: float, low: float, high: float, confidence: float, freedom: float | None) -> tuple[float, float]:
    """Bounds at another confidence than 95 %: exact for normal ones; of others each side is taken as normal.

    Of rows in groups the normal quantile or Student's counts, whichever gives wider bounds.
    """
    factor = student.quantile(confidence) / student.quantile(0.95)
    if freedom is not None:
        factor = max(factor, student.quantile(confidence, freedom) / student.quantile(0.95, freedom))
    return value + (low - value) * factor, value + (high - value) * factor


def worse_p_value(found: Measure | Comparison, limit: float, at_least: bool) -> float:
    """The p-value of "the value keeps the limit": small says that it is shown not to. The same as moved bounds say."""
    value = found.value if isinstance(found, Measure) else found.difference
    gap, reach = (limit - value, found.high - value) if at_least else (value - limit, value - found.low)
    if reach <= 0:
        return 0.0 if gap > 0 else 1.0
    known = [None] if found.freedom is None else [None, found.freedom]
    return max(student.survival(gap / reach * student.quantile(0.95, freedom), freedom) for freedom in known)
