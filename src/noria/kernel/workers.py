"""How many processes answer for an environment."""

from __future__ import annotations

import msgspec

MOST = 64  # an environment has a slot of counters for each


class Workers(msgspec.Struct, frozen=True):
    """Never fewer than ``least``, never more than ``most``; a fixed number where both are the same."""

    least: int = 2
    most: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most <= MOST:
            raise ValueError(f"{self.least}:{self.most}")

    def __str__(self) -> str:
        """``2``, or ``1:4``."""
        return str(self.least) if self.fixed else f"{self.least}:{self.most}"

    @property
    def fixed(self) -> bool:
        return self.least == self.most

    @classmethod
    def of(cls, text: str) -> Workers:
        """``2``, ``1:4`` or ``1..4``. Raises ValueError."""
        least, _, most = text.replace("..", ":", 1).partition(":")
        if not least.isdecimal() or (most and not most.isdecimal()) or text.endswith((":", ".")):
            raise ValueError(text)
        return cls(int(least), int(most or least))


TWO = Workers()
