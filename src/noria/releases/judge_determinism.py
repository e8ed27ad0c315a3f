"""What makes two runs of the same code differ, as far as its text shows it: sources of time, of randomness, of order.

A function draws from ``random`` and NumPy's global generator with Noria's seed, and hashes are equal in every run: neither is
a cause, nor is the order of a set of text or numbers. What the text does not show is not guessed at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

import msgspec

TIME = "reads the clock"
IDENTITY = "makes a new identifier"
SYSTEM = "draws from the system's entropy"
UNSEEDED = "makes a generator without a seed"
PROCESS = "reads what differs between processes"
LISTING = "lists files in the order of the disk"
THREADS = "takes results in the order in which threads or processes end"
ORDER = "leaves the order of rows open"

CALLS = {  # the last two parts of a dotted name, or all of it -> what such a call does
    "time.time": TIME, "time.time_ns": TIME, "time.monotonic": TIME, "time.perf_counter": TIME, "time.localtime": TIME,
    "time.strftime": TIME, "datetime.now": TIME, "datetime.utcnow": TIME, "datetime.today": TIME, "date.today": TIME,
    "Timestamp.now": TIME,
    "uuid.uuid1": IDENTITY, "uuid.uuid4": IDENTITY, "uuid1": IDENTITY, "uuid4": IDENTITY,
    "os.urandom": SYSTEM, "os.getrandom": SYSTEM, "random.SystemRandom": SYSTEM, "SystemRandom": SYSTEM,
    "os.getpid": PROCESS, "socket.gethostname": PROCESS, "platform.node": PROCESS, "tempfile.mkdtemp": PROCESS, "id": PROCESS,
    "os.listdir": LISTING, "os.scandir": LISTING, "glob.glob": LISTING, "glob.iglob": LISTING,
    "futures.as_completed": THREADS, "as_completed": THREADS,
}  # fmt: skip
SECRETS = frozenset({"token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice", "randbits"})
GENERATORS = frozenset({"default_rng", "RandomState", "Random", "SeedSequence", "PCG64", "Philox", "MT19937"})
LISTINGS = frozenset({"iterdir", "glob", "rglob"})  # methods of a path
UNORDERED = frozenset({"imap_unordered"})
POLARS = frozenset({"group_by", "unique"})  # methods with ``maintain_order``
SORTING = frozenset({"np", "numpy", "pd", "pandas"})  # whose functions of these names keep or make an order
SORTS = frozenset({"sorted", "sort", "set", "frozenset", "len", "sum", "min", "max", "any", "all"})  # after these none is left
COMMAND = (  # in a line for the shell
    (re.compile(r"(?<![\w./-])date(?![\w./=-])"), TIME, "date"),
    (re.compile(r"\$\{?(?:RANDOM|SRANDOM)\b"), SYSTEM, "$RANDOM"),
    (re.compile(r"/dev/u?random"), SYSTEM, "/dev/urandom"),
    (re.compile(r"\buuidgen\b"), IDENTITY, "uuidgen"),
    (re.compile(r"\bmktemp\b"), PROCESS, "mktemp"),
    (re.compile(r"\$\$"), PROCESS, "$$"),
    (re.compile(r"\bhostname\b"), PROCESS, "hostname"),
    (re.compile(r"\bshuf\b(?!.*--random-source)|\bsort\b[^|;&]*\s(?:-R|--random-sort)\b"), UNSEEDED, "shuf"),
    (re.compile(r"\bgzip\b(?![^|;&]*\s(?:-\w*n|--no-name))"), TIME, "gzip without -n"),
)


class Cause(msgspec.Struct, frozen=True):
    """A place that may make results differ."""

    where: str  # file:line, or "cmd"
    what: str  # one of the sentences above
    code: str  # the expression as it is written

    @property
    def text(self) -> str:
        return f"{self.where} {self.what}: {self.code}"


def causes(files: Mapping[str, str]) -> list[Cause]:
    """Of Python files, path -> text, in the order of path and line. A file that cannot be parsed tells nothing."""
    found: list[Cause] = []
    for path, text in sorted(files.items()):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        seen = {(node.lineno, what): ast.unparse(node.func) + _arguments_text(node) for node, what in _calls(tree)}
        found += [Cause(f"{path}:{line}", what, code) for (line, what), code in sorted(seen.items())]
    return found


def causes_in_command(line: str) -> list[Cause]:
    """Of a line for the shell."""
    return [Cause("cmd", what, code) for pattern, what, code in COMMAND if pattern.search(line)]


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    imported = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    ordered = _order_free_calls(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            what = _what(node, imported)
            if what and not (what in (LISTING, ORDER, THREADS) and id(node) in ordered):
                yield node, what


def _what(node: ast.Call, imported: set[str]) -> str | None:
    parts = _name_parts(node.func)
    if not parts:
        return None
    name, short = parts[-1], ".".join(parts[-2:])
    keywords = {keyword.arg for keyword in node.keywords}
    if len(parts) == 1 and name != "id" and name not in imported:
        return None  # the project's own function of that name
    if parts[0] == "secrets" and name in SECRETS:
        return SYSTEM
    if name in GENERATORS:
        return UNSEEDED if _no_seed(node) else None
    if short in CALLS:
        return CALLS[short]
    if len(parts) < 2:
        return None
    if name in UNORDERED:
        return THREADS
    if name in LISTINGS and parts[0] != "glob" and not (name == "glob" and not node.args):
        return LISTING
    if name in POLARS and "maintain_order" not in keywords and parts[0] not in SORTING:
        return ORDER
    return None


def _no_seed(node: ast.Call) -> bool:
    given = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in ("seed", "x", "entropy", None))]
    return all(isinstance(value, ast.Constant) and value.value is None for value in given)


def _order_free_calls(tree: ast.Module) -> set[int]:
    """Calls whose order does not matter: inside ``sorted(...)`` and the like, or before ``.sort(...)``."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            parts = _name_parts(node.func)
            if parts and parts[-1] in SORTS:
                inner = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
                found |= {id(below) for value in inner for below in ast.walk(value)}
    return found


def _name_parts(node: ast.expr) -> list[str]:
    """``["np", "random", "default_rng"]``; a call or another value before the last name is ``"*"``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return [node.id, *reversed(parts)]
    return ["*", *reversed(parts)] if parts else []


def _arguments_text(node: ast.Call) -> str:
    return "()" if not node.args and not node.keywords else "(...)"
