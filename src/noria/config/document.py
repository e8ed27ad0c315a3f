"""A YAML file as plain values that remember where they stand. No tags, no duplicate keys, bounded in size and depth."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import yaml

from noria.config.unshown import RedactedRecord
from noria.kernel.errors import ConfigError
from noria.kernel.words import limit_size

SIZE_LIMIT = 1 << 20  # bytes
DEPTH_LIMIT = 32
SECRET_LENGTH = 4  # a variable's value shorter than this hides nothing, and would tear other words apart
NODE_LIMIT = 50_000  # after aliases are followed, so that a few lines cannot stand for millions of values
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

EACH = "*"  # in a path: every key of a mapping, every element of a list
Paths = Collection[tuple[str, ...]]

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


class DocumentItem(RedactedRecord, frozen=True):
    """A value and its place. ``value`` is None, bool, int, float, str, a list of items, or a dict of items by key.

    ``text`` is a scalar as it is written; ``keys`` holds the place of each key of a dict; ``secrets`` are the values that
    came from the environment, each with the ``${VAR}`` that stands for it: no message shows them.
    """

    unshown: ClassVar = frozenset({"secrets"})

    value: Any
    where: str  # noria.yaml:12:3
    text: str = ""
    keys: Mapping[str, str] | None = None
    secrets: tuple[tuple[str, str], ...] = ()

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def error(self, message: str, hint: str | None = None) -> ConfigError:
        return ConfigError(self._masked(message), where=self.where, hint=self._masked(hint) if hint else hint)

    def _masked(self, words: str) -> str:
        for value, written in self.secrets:
            words = words.replace(repr(value)[1:-1], written).replace(value, written)
        return words

    @property
    def kind(self) -> str:
        """What was found, in the words of an error message."""
        if isinstance(self.value, str):
            return f"the text {shorten(self.text)!r}"
        if isinstance(self.value, bool):
            return f"`{self.text}`"
        if isinstance(self.value, (int, float)):
            return f"the number {shorten(self.text)}"
        if isinstance(self.value, dict):
            return "a mapping"
        return "a list" if isinstance(self.value, list) else "nothing"


def read(data: bytes, shown: str, environ: Mapping[str, str] | None = None, expanded: Paths = ()) -> DocumentItem:
    """The document in ``data``, named ``shown`` in errors; ``${VAR}`` is replaced from ``environ`` at ``expanded`` paths.

    Raises ConfigError for anything that is not one plain YAML document.
    """
    if len(data) > SIZE_LIMIT:
        raise ConfigError(f"is larger than {limit_size(SIZE_LIMIT)}", where=shown)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text (byte {error.start})", where=shown, hint="Save it as UTF-8.") from error
    return _read(text, shown, environ, expanded) if environ is not None and "${" in text else _read_cached(text, shown)


@lru_cache(maxsize=8)  # a turn reads the project's files in the home and in the worktree: mostly the same text
def _read_cached(text: str, shown: str) -> DocumentItem:
    return _read(text, shown, None, ())


def _read(text: str, shown: str, environ: Mapping[str, str] | None, expanded: Paths) -> DocumentItem:
    try:
        _check_limits(text, shown)
        root = yaml.compose(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise _not_yaml(error, shown) from error
    return DocumentItem(None, f"{shown}:1:1") if root is None else _YamlReader(shown, environ, expanded).item(root)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the valid word closest to ``word``, or all of them when there are few."""
    words = list(dict.fromkeys(known))
    found = difflib.get_close_matches(word, words, 1, cutoff=0.55)
    if found:
        return f"Did you mean {found[0]!r}?"
    return f"Known here: {', '.join(words)}." if 0 < len(words) <= 24 else None


def _check_limits(text: str, shown: str) -> None:
    """Refuse tags and deep nesting from the flat stream of events, before anything recurses."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise ConfigError(f"tags are not allowed: {shorten(str(tag))}", where=_where(shown, event.start_mark))
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_LIMIT:
            raise ConfigError(f"is nested deeper than {DEPTH_LIMIT} levels", where=_where(shown, event.start_mark))


class _YamlReader:
    def __init__(self, shown: str, environ: Mapping[str, str] | None, expanded: Paths) -> None:
        self.shown = shown
        self.environ = environ
        self.expanded = expanded
        self.nodes = 0

    def item(self, node: yaml.Node, path: tuple[str, ...] = ()) -> DocumentItem:
        where = _where(self.shown, node.start_mark)
        self.nodes += 1
        if self.nodes > NODE_LIMIT or len(path) > DEPTH_LIMIT:
            raise ConfigError("holds too many values once its aliases are followed", where=where)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where, path)
        if isinstance(node, yaml.SequenceNode):
            return DocumentItem([self.item(child, (*path, EACH)) for child in node.value], where)
        return self._scalar(node, where, path)

    def _mapping(self, node: yaml.MappingNode, where: str, path: tuple[str, ...]) -> DocumentItem:
        values: dict[str, DocumentItem] = {}
        keys: dict[str, str] = {}
        for key, child in node.value:
            place = _where(self.shown, key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError("a key must be text", where=place)
            if key.value in values:
                raise ConfigError(f"{key.value!r} is given twice; the first is at {keys[key.value]}", where=place)
            keys[key.value] = place
            values[key.value] = self.item(child, (*path, key.value))
        return DocumentItem(values, where, keys=keys)

    def _scalar(self, node: yaml.Node, where: str, path: tuple[str, ...]) -> DocumentItem:
        text = str(node.value)
        plain = not getattr(node, "style", None)  # quoted and block scalars are always text
        value = scalar(text) if plain else text
        if isinstance(value, str) and self.environ is not None and "$" in value and self._is_expanded(path):
            return DocumentItem(expand(value, self.environ, where), where, text, secrets=_secrets(value, self.environ))
        return DocumentItem(value, where, text)

    def _is_expanded(self, path: tuple[str, ...]) -> bool:
        return any(
            len(path) == len(pattern) and all(wanted in (EACH, part) for wanted, part in zip(pattern, path, strict=True))
            for pattern in self.expanded
        )


def scalar(text: str) -> Any:
    """What an unquoted word means: YAML 1.2's core schema, so that ``on``, ``no`` and ``1:30`` stay text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) and math.isfinite(float(text)) else text


def expand(text: str, environ: Mapping[str, str], where: str) -> str:
    """Replace ``${VAR}`` and ``${VAR:-default}``; ``$${`` stands for ``${``. Raises ConfigError when VAR is not set."""

    def replace(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "${"
        if name is None:
            raise ConfigError("`${` is not followed by NAME} or NAME:-default}", where=where, hint="Write $${ for a plain ${.")
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise ConfigError(
                f"the environment has no variable {name}", where=where, hint=f"Set it, or write ${{{name}:-default}}."
            )
        return value

    return _VARIABLE.sub(replace, text)


def _secrets(text: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The values of the variables in ``text``, the longest first, each with what is written for it."""
    names = {name for _, name, _ in _VARIABLE.findall(text) if len(environ.get(name, "")) >= SECRET_LENGTH}
    return tuple((environ[name], f"${{{name}}}") for name in sorted(names, key=lambda name: (-len(environ[name]), name)))


def _where(shown: str, mark: Any) -> str:
    """``mark`` is the parser's: line and column from zero."""
    return f"{shown}:{mark.line + 1}:{mark.column + 1}"


def _not_yaml(error: yaml.YAMLError, shown: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it holds a character that YAML does not allow"
    where = _where(shown, mark) if mark is not None else shown
    return ConfigError(
        f"is not YAML: {problem}", where=where, hint="Check indentation, quotes and brackets at and above this line."
    )


def shorten(text: str) -> str:
    """At most 60 characters, as messages show what they found."""
    return text if len(text) <= 60 else text[:57] + "..."
