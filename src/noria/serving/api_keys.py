"""API keys: a file with one key on each line, read again when it changes.

A key is stored as its digest and reported by its name.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import msgspec

from noria.kernel import logs
from noria.kernel.errors import ConfigError, NoriaError
from noria.kernel.names import is_name
from noria.kernel.words import plural

_log = logs.get_logger("noria.serving")

LOOK_S = 1.0  # a change of the file takes effect within this time
MOST_KEYS = 10_000
MOST_BYTES = 4 << 20
SHORTEST = 16  # characters: fewer can be guessed
HINT = "One key a line, as NAME:KEY or KEY alone; lines that begin with # are not read."
SCOPES = frozenset({"predict", "feedback"})  # what a key may do; without a scope, both


class KeyHolder(msgspec.Struct, frozen=True):
    """A key of the list: its name and its scopes."""

    name: str
    scopes: frozenset[str] = SCOPES


class ApiKeys:
    """Knows the keys of a file. Raises ConfigError for a file that is not a list of keys."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._secret = os.urandom(32)
        self._mark = _mark(file)
        self._held = self._read()
        self._next = time.monotonic() + LOOK_S
        self._trouble = ""

    def known(self, key: bytes) -> KeyHolder | None:
        """None for a key that is not in the file. What it takes depends on the digest, which no client can steer: it is keyed."""
        if time.monotonic() >= self._next:
            self._look()
        digest = self._digest(key)
        held, known = self._held.get(digest[:8], (b"", NOBODY))
        return known if hmac.compare_digest(held, digest) else None

    def _look(self) -> None:
        """Reads the file again when it changed. A damaged or missing file changes nothing, and is reported once."""
        self._next = time.monotonic() + LOOK_S
        try:
            mark = _mark(self._file)
            if mark == self._mark:
                return
            self._held, self._mark, self._trouble = self._read(), mark, ""
        except NoriaError as error:
            if str(error) != self._trouble:
                _log.error(f"the keys remain unchanged: {error}", extra=logs.facts(file=str(self._file)))
            self._trouble = str(error)

    def _read(self) -> dict[bytes, tuple[bytes, KeyHolder]]:
        held: dict[bytes, tuple[bytes, KeyHolder]] = {}
        for key, known in read_keys(self._file).items():
            digest = self._digest(key.encode())
            held[digest[:8]] = digest, known
        return held

    def _digest(self, key: bytes) -> bytes:
        return blake2b(key, key=self._secret, digest_size=32).digest()


NOBODY = KeyHolder("")


def read_keys(file: Path) -> dict[str, KeyHolder]:
    """Each key of the list with its name; a key alone is called by its line: ``line-3``. Behind a key may stand what it is for:
    ``labels:KEY feedback``. Raises ConfigError, which never shows one."""
    found: dict[str, KeyHolder] = {}
    for number, line in enumerate(_text(file).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, key = text.partition(":") if ":" in text else (f"line-{number}", "", text)
        name, words = name.strip(), key.split()
        scopes = set[str]()
        while len(words) > 1 and words[-1] in SCOPES:
            scopes.add(words.pop())
        key = " ".join(words)
        wrong = _wrong(name, key, found)
        if wrong:
            raise ConfigError(wrong, where=f"{file}:{number}", hint=HINT)
        found[key] = KeyHolder(name, frozenset(scopes or SCOPES))
    if not 0 < len(found) <= MOST_KEYS:
        raise ConfigError(f"it holds {plural(len(found), 'key')}, not 1 to {MOST_KEYS}", where=str(file), hint=HINT)
    return found


def _wrong(name: str, key: str, found: Mapping[str, KeyHolder]) -> str | None:
    if not is_name(name):
        return "the text before the colon is not a valid name: use small letters, digits, - and _"
    if len(key) < SHORTEST:
        return f"the key has {plural(len(key), 'character')}, which can be guessed: it needs at least {SHORTEST}"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "a key consists of printable ASCII characters without spaces"
    if key in found or name in {known.name for known in found.values()}:
        return "the same name or key is on an earlier line"
    return None


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"a list of keys may have at most {MOST_BYTES} bytes", where=str(file))
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error


def _mark(file: Path) -> tuple[int, int, int]:
    """A mark that changes whenever the file does, also when a link points to another file."""
    try:
        stat = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _unreadable(file: Path, error: OSError | UnicodeDecodeError) -> ConfigError:
    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return ConfigError(f"the keys cannot be read: {why}", where=str(file), hint=HINT)
