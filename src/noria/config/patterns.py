"""Patterns of a contract: regular expressions of the engine that judges (Rust's), whose time grows only as the text does."""

from __future__ import annotations

import re

from noria.config.document import DocumentItem
from noria.config.shapes import TEXT, Scalar

LONGEST = 1000
_BEYOND = (  # what other engines know and this one refuses, since its time would have no bound
    (re.compile(r"\(\?(?:=|!|<=|<!)"), "look-around"),
    (re.compile(r"\\[1-9]|\\k|\(\?P="), "a back-reference"),
    (re.compile(r"\(\?>|[*+?]\+"), "an atomic group or a possessive quantifier"),
)
_PLAIN = re.compile(r"(?:[^\\(\[{]|\\[dDwWsSbB.\-+*?()\[\]{}|^$/]|\((?!\?)|\(\?:|\[\^?[\w .,:;/@%#+*()$-]+\]|\{\d+(?:,\d*)?\})*")


def _pattern(item: DocumentItem) -> str:
    text: str = TEXT.take(item)
    if len(text) > LONGEST:
        raise item.error(f"a pattern has at most {LONGEST:,} characters; this one has {len(text):,}")
    bare = re.sub(r"\\\\", "__", text)
    bare = re.sub(r"\[(?:\\.|[^\]\\])+\]", "_", bare)  # in a class, all signs are plain
    for beyond, words in _BEYOND:
        if beyond.search(bare):
            raise item.error(f"the pattern {text!r} uses {words}, which patterns here cannot", HINT)
    problem = _problem(text)
    if problem:
        raise item.error(f"the pattern {text!r} cannot be read: {problem}", HINT)
    return text


def _problem(text: str) -> str:
    """Why the engine cannot read it. The engine is asked only where Python's own reading does not settle it: it loads slowly."""
    if _PLAIN.fullmatch(text):
        try:
            re.compile(text)
        except re.error:
            pass  # the engine says why
        else:
            return ""
    import polars as pl  # heavy: few projects have such a pattern

    try:
        pl.Series([""]).str.contains(rf"\A(?:{text})\z")
    except pl.exceptions.ComputeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]  # Polars has no class for it
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return said[-1] if said else lines[-1].removeprefix("regex error: ")
    return ""


HINT = r"Patterns are Rust's regular expressions, of the whole value: [A-Z]{2}\d{4}, (red|green), \p{L}+."
PATTERN = Scalar("a regular expression", _pattern, {"type": "string", "minLength": 1, "maxLength": LONGEST})
