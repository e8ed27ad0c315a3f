"""A request of which some rows have no answer: what the others are recorded as, and what is said of these.

/predict      {"error": {"code": "no_answer", "message": ...}} in the row's place
/invocations  null in the row's place, and ``errors``: row -> words
/v2           null (in binary form NaN) in each output; ``failed`` and ``untold`` among the parameters name the rows
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from noria.serving.protocol import PredictionRequest
from noria.serving.router import WHOLE, PartlyAnswered, RouterAnswer

CODE = "no_answer"
UNTOLD = "this row could not be told apart from failing rows of its request: send it alone, or with fewer rows"


def answered_part(ask: PredictionRequest, answered: RouterAnswer) -> tuple[PredictionRequest, RouterAnswer]:
    """Only the rows that have an answer."""
    without = {*answered.lacking.failed, *answered.lacking.untold}
    rows = [row for row in range(len(ask.records)) if row not in without]

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in rows]

    columns = {name: some(values) for name, values in ask.columns.items()}
    part = PredictionRequest(some(ask.records), columns, some(ask.keys), some(ask.event_times))
    return part, replace(answered, answers=some(answered.answers), lacking=WHOLE)


def words(answered: RouterAnswer) -> dict[int, str]:
    """Row -> why it has no answer."""
    failed = f"release {answered.version} could not answer this row"
    found = dict.fromkeys(answered.lacking.failed, failed) | dict.fromkeys(answered.lacking.untold, UNTOLD)
    return dict(sorted(found.items()))


def spread(values: Sequence[Any], lacking: PartlyAnswered, missing: Any = None) -> list[Any]:
    """The answered rows' values in the places of all rows."""
    without = {*lacking.failed, *lacking.untold}
    given = iter(values)
    return [missing if row in without else next(given) for row in range(len(values) + len(without))]


def access_log_facts(answered: RouterAnswer, rows: int) -> tuple[int, str, str, int]:
    """For the access log: rows that are answered, release, variant, and rows that are not."""
    return rows, answered.version, answered.variant, len(answered.lacking)
