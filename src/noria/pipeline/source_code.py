"""What code a step depends on: its module and every project module that it imports, by their meaning, not their layout."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from noria.kernel.names import digest_bytes

LIMIT = 5000  # modules; a project that has more is not one model
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def imports_closure(roots: Sequence[Path], module: str) -> dict[str, str]:
    """Path relative to its root -> digest, of ``module`` and all project modules it imports, directly or not.

    ``roots`` are searched in order, as sys.path is. The digest is of the syntax tree without docstrings and positions:
    comments, layout and docstrings change nothing. Imports by computed names and data files that code reads are not seen.
    A module that is not under ``roots`` (a library, or missing) adds nothing.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = [module]
    while waiting and len(found) < LIMIT:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # importing a.b runs a/__init__.py first
        located = _locate(roots, name)
        if located is None:
            continue
        root, path = located
        found[path.relative_to(root).as_posix()], imported = _read(path, name)
        waiting += imported
    return dict(sorted(found.items()))


def script_closure(tree: Path, script: str, roots: Sequence[Path]) -> dict[str, str]:
    """As ``imports_closure``, of a script: Python looks for what it imports beside it first. Paths are relative to ``tree``."""
    path = tree / script
    digest, imported = _read(path, path.stem)
    found = {script: digest}
    searched = (path.parent, *roots)
    for module in imported:
        for name, known in imports_closure(searched, module).items():
            root = next(root for root in searched if (root / name).is_file())
            found[(root / name).relative_to(tree).as_posix()] = known
    return dict(sorted(found.items()))


def imported_modules(tree: Path) -> frozenset[str]:
    """Top-level modules that any Python file below a folder imports, its own among them; the first LIMIT files are read."""
    found: set[str] = set()
    for path in islice(sorted(tree.rglob("*.py")), LIMIT):
        found |= {name.partition(".")[0] for name in _read(path, path.stem)[1]}
    return frozenset(found)


def _locate(roots: Sequence[Path], module: str) -> tuple[Path, Path] | None:
    for root in roots:
        base = root.joinpath(*module.split("."))
        for path in (base / "__init__.py", base.with_name(base.name + ".py")):
            if path.is_file():
                return root, path
    return None


def _read(path: Path, module: str) -> tuple[str, list[str]]:
    """The digest of a file, and the modules it may import."""
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return digest_bytes(content), []  # it will fail when it is imported, and say where
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported = list(_imports(tree, package))
    return digest_bytes(ast.dump(_without_docstrings(tree)).encode()), imported


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            if base:
                yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names if alias.name != "*")


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """``from ..table import x`` in ``delays.sub`` -> ``delays.table``."""
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    above = parts[: max(0, len(parts) - node.level + 1)]
    return ".".join([*above, *filter(None, [node.module])])


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return tree
