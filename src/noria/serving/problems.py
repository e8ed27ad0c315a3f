"""Collects what is wrong with a request, in a message that stays short however much is wrong."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Sequence

SHOWN = 5  # problems that are told in words
COUNTED = 1000  # then nothing more is looked at
LISTED = 40  # names in a list
NEAR = 300  # names that one which is not known is compared with
NAME_LENGTH = 80  # characters of a name


class Problems:
    """The first few in words, the others as a number. Words are only made where they are told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def is_full(self) -> bool:
        """Whether there is no sense in looking further."""
        return self.count >= COUNTED

    def add(self, text: Callable[[], str]) -> None:
        self.count += 1
        if len(self.texts) < SHOWN:
            self.texts.append(text())

    def followed_by(self, others: Problems) -> Problems:
        """These, and then the others."""
        both = Problems()
        both.texts, both.count = [*self.texts, *others.texts][:SHOWN], self.count + others.count
        return both

    def __str__(self) -> str:
        told, more = "; ".join(self.texts), self.count - len(self.texts)
        if not more:
            return told
        return f"{told}; and {'at least ' if self.is_full else ''}{more} more"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'carrier'?``, or nothing. It takes long where many names are alike, so no more than NEAR are looked at."""
    near = difflib.get_close_matches(name[:NAME_LENGTH], [n[:NAME_LENGTH] for n in itertools.islice(known, NEAR)], 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def render_names(names: Sequence[str]) -> str:
    """``a, b, c``, and of many the first few with how many more there are."""
    told = ", ".join(name[:NAME_LENGTH] for name in names[:LISTED])
    return told if len(names) <= LISTED else f"{told} and {len(names) - LISTED} more"
