"""Text that a spreadsheet would run as a formula, made harmless where a table is written as CSV for people.

Inputs and keys come from whoever may ask the model: `=HYPERLINK(...)` in one of them must not run when a colleague opens the
file. A cell whose text begins like a formula gets an apostrophe in front, as spreadsheets write text themselves; numbers stay.
"""

from __future__ import annotations

import polars as pl

BEGINNING = r"^[=+\-@\t\r\n|%]"
NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"


def harmless(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The table with every text that is no number and begins like a formula behind an apostrophe, names of columns too."""
    schema = rows.collect_schema()
    texts = [name for name, dtype in schema.items() if dtype in (pl.String, pl.Categorical) or isinstance(dtype, pl.Enum)]
    changed = rows.with_columns(_quote(pl.col(name).cast(pl.String)).alias(name) for name in texts)
    return changed.rename({name: f"'{name}" for name in schema if name[:1] in set("=+-@\t\r\n|%")})


def _quote(text: pl.Expr) -> pl.Expr:
    risky = text.str.contains(BEGINNING) & ~text.str.contains(NUMBER)
    return pl.when(risky).then(pl.lit("'") + text).otherwise(text)
