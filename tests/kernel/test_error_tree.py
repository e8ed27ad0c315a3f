"""The tree of errors: as its drawing says, and the words in their places."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

from noria.kernel import errors
from noria.kernel.errors import NoriaError

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, NoriaError)}


def drawn() -> Iterator[tuple[int, str]]:
    """Depth and name of each line of the drawing."""
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([│├└─ ]*)(\w+Error)\b", line)
        if found:
            yield len(found[1]) // 4, found[2]


def test_the_drawing_is_the_tree() -> None:
    path: list[str] = []
    seen = []
    for depth, name in drawn():
        path = path[:depth]
        assert CLASSES[name].__bases__[0].__name__ == (path[-1] if path else "Exception")
        path.append(name)
        seen.append(name)
    assert sorted(seen) == sorted(CLASSES)


def test_every_error_says_in_a_sentence_what_it_is() -> None:
    for name, kind in CLASSES.items():
        assert (kind.__doc__ or "").partition("\n")[0].endswith("."), name


@pytest.mark.parametrize(
    ("where", "hint", "text"),
    [
        (None, None, "it broke"),
        ("noria.yaml:2:1", None, "noria.yaml:2:1: it broke"),
        (None, "Mend it.", "it broke\n  Mend it."),
        ("a b", "Mend it.", "a b: it broke\n  Mend it."),
        ("", "", "it broke"),
    ],
)
def test_what_where_and_what_next(where: str | None, hint: str | None, text: str) -> None:
    for kind in CLASSES.values():
        if kind is errors.TooOftenError:
            continue
        error = kind("it broke", where=where, hint=hint)
        assert str(error) == text
        assert (error.message, error.where, error.hint) == ("it broke", where, hint)


def test_too_often_says_how_long_to_wait() -> None:
    error = errors.TooOftenError("slower", wait_s=2.5, hint="Ask later.")
    assert (error.wait_s, str(error)) == (2.5, "slower\n  Ask later.")
