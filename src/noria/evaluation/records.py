"""Measurements of a candidate, beside the champion where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def gated_first(metrics: Iterable[str], gated: Sequence[str]) -> list[str]:
    """The names in the order in which people read them: those that gates ask for, in the gates' order, then the others as they
    come. ``validation.roc_auc`` stands where ``roc_auc`` does."""
    places = {name: place for place, name in enumerate(dict.fromkeys(gated))}

    def place(name: str) -> tuple[int, bool]:
        bare = name.removeprefix("validation.")
        return places.get(bare, len(places)), bare != name

    return sorted(metrics, key=place)
