"""Times, shares, sizes and counts are told by ``kernel/words.py``: nobody else puts a unit behind a number."""

from __future__ import annotations

import ast
import re

from test_tidy import ROOT, lines

HOME = "src/noria/kernel/words.py"
BY_HAND = {
    "a share": re.compile(
        r"\{[^{}]*:[+,]*(?:\.\d+)?%\}|\{[^{}]*\* ?100\b[^{}]*\} ?%|\{ ?100 ?\*[^{}]*\} ?%|\{[^{}]*:[^{}]*[gf]\} ?%"
    ),
    "a size": re.compile(r"\{[^{}]*\} ?([kKMGT]i?B|bytes of memory)\b"),
    "a count": re.compile(r"\{'s' (if|\*)|\{'' if [^{}]* == 1 else 's'|\{'(?P<one>\w+)' if [^{}]* == 1 else '(?P=one)s'\}"),
    "a time that was set": re.compile(r"\{[\w.]*(?:_S|_s|SECONDS)(?::g)?\} ?s\b"),
    "days or hours": re.compile(r"\{[^{}]*/ ?(60|3600|86400|DAY_S)\b[^{}]*\}"),
}
EXCEPTIONS = {  # what is not told to a person, or not as a count
    "cli/contract_text.py": "writes a share of a contract, which has its own spelling",
    "cli/drafted_gates.py": "writes a gate of noria.yaml, which has its own spelling",
    "evaluation/judge_gate.py": "the ending of a verb: 3 rows differ, 1 differs",
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
    assert by_hand("not within {TIMEOUT_S:g} s") == by_hand("after {self.timeout_s} s") == ["a time that was set"]
    assert by_hand("{span_s / DAY_S:g} days") == by_hand("{period_s / 3600:g} h") == ["days or hours"]
    assert by_hand("{plural(count, 'row')} of {percent(share)} in {size(found)}") == []


POETRY = re.compile(
    r"\b(told(?! (apart|refit))|nudge\w*|anew|for want of|all the same|without a word|(stands|stand) still"
    r"|puts? (it|them|the \w+) back|says nothing|turns? the wheel)\b",
    re.IGNORECASE,
)


def spoken(source: str) -> list[str]:
    """The texts of a module that people may read: constants with a space, docstrings of commands among them."""
    tree = ast.parse(source)
    plain = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not any("command" in ast.unparse(made) for made in getattr(node, "decorator_list", ()))
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in plain]
    return [node.value for node in texts if isinstance(node.value, str) and " " in node.value]


def test_what_people_read_is_plain_english() -> None:
    sources = sorted((ROOT / "src").rglob("*.py"))
    assert {f"{path.name}: {text}" for path in sources for text in spoken(path.read_text()) if POETRY.search(text)} == set()
    assert POETRY.search("a turn that was interrupted is told again from the start")
    assert POETRY.search("`noria run` turns the wheel once.")
