"""The keys of a query, and of how CSV files are written, under a dataset."""

from __future__ import annotations

from noria.config.scalars import ENCODING, MARK, QUOTE
from noria.config.shapes import TEXT, VALUE, Choice, ConfigKey, ListOf, Record

SQL = Record(
    "a mapping with url and query",
    (
        ConfigKey("url", TEXT, "The database, as SQLAlchemy writes it; secrets as ${VAR}.", required=True),
        ConfigKey("query", TEXT, "A SELECT.", required=True),
        ConfigKey(
            "cursor",
            TEXT,
            "A column of the result whose values only grow; then only rows beyond the last value are read.",
            "none",
        ),
    ),
)
CSV = Record(
    "a mapping",
    (
        ConfigKey("separator", MARK, "The separator between cells.", "a comma; a tab in .tsv"),
        ConfigKey("encoding", ENCODING, "The text encoding, such as `cp1252` or `utf-16`.", "utf-8"),
        ConfigKey("decimal", Choice((".", ",")), "The decimal point of numbers.", "."),
        ConfigKey(
            "nulls",
            ListOf(VALUE, "a list of words", distinct=True),
            "Words that mean a missing value, in every column; an empty cell always does.",
            "NA, NaN, null and the like, in columns that are not text",
        ),
        ConfigKey("quote", QUOTE, "The quote around cells that contain a separator.", '"'),
    ),
)
