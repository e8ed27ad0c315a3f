"""Which held-out rows depend on each other: those of a group that the project names, and those of a day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from noria.models import split
from noria.stats.groups import Grouping, number_groups
from noria.stats.measures import DAY, LEAST_GROUPS, STRETCH

DAY_S = 86400.0
STRETCHES = 10  # into which fewer days than LEAST_GROUPS are cut


def find_groupings(rows: pl.DataFrame, groups: str | None, event_time: str | None) -> tuple[Grouping, ...]:
    """Rows of one entity depend on each other, such as those of a patient (``model.groups``), and so do those of a day, which
    share its weather and its campaign (``model.event_time``).

    Fewer than LEAST_GROUPS days do not tell how days differ. They are cut into STRETCHES of as many rows, one after another:
    bounds then hold for such days as these, and rows that follow each other may be alike. Rows of so few moments are independent.
    """
    found = []
    if groups is not None and groups in rows.columns:
        found.append(Grouping(groups, number_groups(rows[groups].to_list())))
    if event_time is not None and event_time in rows.columns:
        by_time = _by_time(split.seconds(rows[event_time]).to_numpy())
        found += [by_time] if by_time is not None else []
    return tuple(found)


def of_rows(groupings: Sequence[Grouping], mask: np.ndarray) -> tuple[Grouping, ...]:
    """The groups of some of the rows."""
    return tuple(Grouping(grouping.unit, np.unique(grouping.ids[mask], return_inverse=True)[1]) for grouping in groupings)


def _by_time(at: np.ndarray) -> Grouping | None:
    days = np.unique(at // DAY_S, return_inverse=True)[1]
    if days.max(initial=0) + 1 >= LEAST_GROUPS:
        return Grouping(DAY, days)
    moments = np.unique(at, return_inverse=True)[1]
    if moments.max(initial=0) + 1 < STRETCHES:
        return None
    place = np.searchsorted(np.sort(at), at)  # rows of one moment stay together
    return Grouping(STRETCH, np.unique(place * STRETCHES // len(at), return_inverse=True)[1])
