"""Times, shares, sizes and counts are told by ``kernel/words.py``: nobody else puts a unit behind a number."""

from __future__ import annotations

import re

from test_tidy import lines

HOME = "src/noria/kernel/words.py"
BY_HAND = {
    "a share": re.compile(
        r"\{[^{}]*:[+,]*(?:\.\d+)?%\}|\{[^{}]*\* ?100\b[^{}]*\} ?%|\{ ?100 ?\*[^{}]*\} ?%|\{[^{}]*:[^{}]*[gf]\} ?%"
    ),
    "a size": re.compile(r"\{[^{}]*\} ?([kKMGT]i?B|bytes of memory)\b"),
    "a count": re.compile(r"\{'s' (if|\*)|\{'' if [^{}]* == 1 else 's'|\{'(?P<one>\w+)' if [^{}]* == 1 else '(?P=one)s'\}"),
    "days or hours": re.compile(r"\{[^{}]*/ ?(60|3600|86400|DAY_S)\b[^{}]*\}"),
}
EXCEPTIONS = {  # what is not told to a person, or not as a count
    "cli/drafted_gates.py": "writes a gate of noria.yaml, which has its own spelling",
    "evaluation/judge_gate.py": "the ending of a verb: 3 rows differ, 1 differs",
    "monitor/judge_rate_limit.py": "two times in one unit, hours, so that they compare",
    "models/split.py": "a sentence among the facts of a run, which a reproduction of an older run must find as it was",
}


def by_hand(line: str) -> list[str]:
    return [what for what, pattern in BY_HAND.items() if pattern.search(line)]


def test_words_are_made_in_one_place() -> None:
    found = {place: by_hand(line) for place, line in lines("src") if by_hand(line)}
    known = tuple(f"src/noria/{name}:" for name in EXCEPTIONS)
    assert {place: what for place, what in found.items() if not place.startswith((f"{HOME}:", *known))} == {}
    assert [name for name in known if not any(place.startswith(name) for place in found)] == []  # an exception that none needs


def test_the_patterns_see_what_they_are_for() -> None:
    """What stood in the source before there was one place."""
    for line in (
        "{facts.changed:.1%} of the classes",
        "{100 * share:.3g} %",
        "{gate.confidence * 100:g} % bounds",
        "{margin * 100:.2g}%",
    ):
        assert by_hand(line) == ["a share"], line
    for line in ("{total / 1e6:,.0f} MB", "{free / 1024**3:.1f} GiB free", "{LIMIT >> 20} MB of source"):
        assert by_hand(line) == ["a size"], line
    for line in (
        "{count} label{'' if count == 1 else 's'}",
        "{n} fold{'s' if n > 1 else ''}",
        "{n} row{'s' * (n != 1)}",
        "{'file' if len(gone) == 1 else 'files'} left",
    ):
        assert by_hand(line) == ["a count"], line
    assert by_hand("{span_s / DAY_S:g} days") == by_hand("{period_s / 3600:g} h") == ["days or hours"]
    assert by_hand("{plural(count, 'row')} of {percent(share)} in {size(found)}") == []
