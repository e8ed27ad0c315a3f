"""The keys of one behaviour under `checks.behaviours`."""

from __future__ import annotations

from noria.config.scalars import PLAIN, TARGET
from noria.config.shapes import NUMBER, SHARE, TEXT, ConfigKey, ListOf, MapOf, Record

BEHAVIOUR = Record(
    "module:function, or a mapping with ignores, rises_with, falls_with, given or call",
    (
        ConfigKey("ignores", TEXT, "An input: another value of it changes no prediction by more than `by`.", "none"),
        ConfigKey("rises_with", TEXT, "An input: a greater value lowers no prediction by more than `by`.", "none"),
        ConfigKey("falls_with", TEXT, "An input: a greater value raises no prediction by more than `by`.", "none"),
        ConfigKey(
            "given",
            ListOf(MapOf(PLAIN, "a mapping of inputs", columns=True), "a list of rows"),
            "Rows and how they are answered: `expect` or `between`. An input that a row leaves out is empty.",
            "none",
        ),
        ConfigKey("call", TARGET, "Takes held-out rows and `predict`; returns for each row whether it behaves.", "none"),
        ConfigKey("by", NUMBER, "How far a prediction may move.", "0"),
        ConfigKey("expect", PLAIN, "The class that each given row is called.", "none"),
        ConfigKey("between", ListOf(NUMBER, "two numbers", length=2), "The range of each given row's prediction.", "none"),
        ConfigKey("allow", SHARE, "The share of rows that may behave otherwise.", "0%"),
    ),
    short="call",
)
