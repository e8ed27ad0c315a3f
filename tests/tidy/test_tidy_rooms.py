"""Each room says what it is for, what it promises and what it exports; and what it exports is there."""

from __future__ import annotations

import ast
import re

import pytest
from test_tidy import assigned, bindings, sources

ROOMS = sorted({name.split(".")[1] for name in sources() if name.count(".") > 1})


def test_there_are_eighteen_rooms() -> None:
    assert len(ROOMS) == 18


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_promises_and_exports(room: str) -> None:
    said = ast.get_docstring(sources()[f"noria.{room}"]) or ""
    purpose, promises, exports = re.fullmatch(r"(.+?)\n\n(Promises .+?)\n(Exports .+)", said, re.DOTALL).groups()  # type: ignore[union-attr]
    assert all(part.endswith(".") for part in (purpose, promises, exports))
    named = re.findall(r"``([\w.]+)``", exports)
    assert named
    assert [name for name in named if not there(f"noria.{room}", name)] == []


def there(room: str, name: str) -> bool:
    """Whether the room has a module of that name, or a module that has it."""
    module, _, last = f"{room}.{name}".rpartition(".")
    if f"{module}.{last}" in sources():
        return True
    tree = sources().get(module)
    return tree is not None and last in {alias.asname or alias.name for alias in bindings(tree)} | assigned(tree)
