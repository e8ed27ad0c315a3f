"""How a text file is written."""

from __future__ import annotations

import msgspec


class Dialect(msgspec.Struct, frozen=True):
    """How a text file is written: ``data.NAME.csv``."""

    separator: str = ""  # empty: by suffix, a comma or a tab
    encoding: str = "utf-8"
    decimal: str = "."
    nulls: tuple[str, ...] | None = None  # words that are missing values in every column; None: NULL_WORDS, where no text is
    quote: str = '"'


PLAIN = Dialect()
