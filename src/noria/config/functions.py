"""The project's functions, read from source and never imported: do they exist, and which arguments do they take?"""

from __future__ import annotations

import ast
import os
from functools import cached_property
from pathlib import Path

import msgspec

from noria.config.document import DocumentItem, nearest
from noria.config.reading import touch
from noria.kernel.errors import ConfigError
from noria.kernel.words import limit_size

HOPS = 10  # re-exports that are followed
FILE_LIMIT = 4 << 20  # bytes of source
MODULE_LIMIT = 2000  # modules that a hint is chosen from
_PRUNED = frozenset({"__pycache__", "node_modules", "venv", "build", "dist"})


class Argument(msgspec.Struct, frozen=True):
    name: str
    default: bool
    by_name: bool = True  # False: positional only


class Function(msgspec.Struct, frozen=True):
    """``arguments`` without ``*args``; ``open`` when it also takes ``**kwargs``. ``where`` is the line of its definition."""

    target: str
    where: str
    arguments: tuple[Argument, ...]
    open: bool = False


class PythonSource:
    """The Python source of a project: ``src`` first when there is one, then the home itself, as its steps import it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.roots = (home / "src", home) if touch(home / "src").is_dir() else (home,)
        self._trees: dict[str, tuple[Path, ast.Module]] = {}

    def find(self, item: DocumentItem) -> Function | None:
        """The function that ``item`` names as "module:function"; None when it exists and its signature cannot be read.

        Raises ConfigError when there is none, with the nearest name.
        """
        module, _, name = str(item.value).partition(":")
        return self._resolve(module, name, item, HOPS)

    def _resolve(self, module: str, name: str, item: DocumentItem, hops: int) -> Function | None:
        path, tree = self._tree(module, item)
        node = _find_definition(tree, name)
        if node is None and _takes_all(tree):
            return None
        if node is None:
            hint = nearest(name, _public(tree)) or f"{self._shown(path)} defines no function."
            raise item.error(f"there is no function {name!r} in {self._shown(path)}", hint)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return _function(f"{module}:{name}", f"{self._shown(path)}:{node.lineno}", node)
        if isinstance(node, ast.ImportFrom) and hops:
            origin = _absolute(node, module, path)
            original = next(a.name for a in node.names if (a.asname or a.name) == name)
            return self._resolve(origin, original, item, hops - 1) if self._path(origin) else None
        return None  # a class, a library's function, a decorated or computed one

    def _tree(self, module: str, item: DocumentItem) -> tuple[Path, ast.Module]:
        if module not in self._trees:
            path = self._path(module)
            if path is None:
                raise item.error(f"there is no module {module!r} in the project", nearest(module, self._modules))
            self._trees[module] = path, self._parse(path)
        return self._trees[module]

    def _parse(self, path: Path) -> ast.Module:
        shown = self._shown(path)
        try:
            content = touch(path).read_bytes()
            if len(content) > FILE_LIMIT:
                raise ConfigError(f"is larger than {limit_size(FILE_LIMIT)} of source", where=shown)
            return ast.parse(content, shown)
        except SyntaxError as error:
            place = f":{error.lineno}:{error.offset or 1}" if error.lineno else ""  # none for a NUL or an unknown encoding
            raise ConfigError(f"is not Python: {error.msg}", where=shown + place) from error
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"cannot be read as Python: {error}", where=shown) from error

    def _path(self, module: str) -> Path | None:
        for root in self.roots:
            base = root.joinpath(*module.split("."))
            for path in (base / "__init__.py", base.with_name(base.name + ".py")):
                if exists(path):
                    return path
        return None

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.home).as_posix()

    @cached_property
    def _modules(self) -> list[str]:
        found: list[str] = []
        for root in self.roots:
            for folder, below, files in os.walk(root):
                below[:] = sorted(name for name in below if name.isidentifier() and name not in _PRUNED)
                parts = Path(folder).relative_to(root).parts
                found += [".".join([*parts, name[:-3]]).removesuffix(".__init__") for name in files if name.endswith(".py")]
                if len(found) >= MODULE_LIMIT:
                    break
        return sorted(set(found), key=lambda name: (name.count("."), name))


def exists(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have (too long, a NUL in it) has none."""
    try:
        return touch(path).is_file()
    except (OSError, ValueError):
        return False


def _find_definition(tree: ast.Module, name: str) -> ast.stmt | None:
    """The statement that binds ``name`` last at the top of a module."""
    return next((node for node in reversed(_statements(tree.body)) if name in _binds(node)), None)


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a module, those under its ``if``, ``with`` and ``try`` among them."""
    found: list[ast.stmt] = []
    for node in body:
        found.append(node)
        if isinstance(node, ast.If):
            found += _statements([*node.body, *node.orelse])
        elif isinstance(node, ast.With):
            found += _statements(node.body)
        elif isinstance(node, ast.Try):
            handlers = [child for handler in node.handlers for child in handler.body]
            found += _statements([*node.body, *handlers, *node.orelse, *node.finalbody])
    return found


def _binds(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def _takes_all(tree: ast.Module) -> bool:
    """Whether a module has ``from x import *``: then what it does not define itself may still be there."""
    return any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in _statements(tree.body))


def _public(tree: ast.Module) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in _statements(tree.body) if isinstance(node, kinds) and not node.name.startswith("_")]


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """``from .table import x`` in ``delays/__init__.py`` -> ``delays.table``."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    above = package[: max(0, len(package) - node.level + 1)]
    return ".".join([*above, *filter(None, [node.module])])


def _function(target: str, where: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    first_default = len(positional) - len(spec.defaults)
    found = [
        Argument(arg.arg, default=index >= first_default, by_name=index >= len(spec.posonlyargs))
        for index, arg in enumerate(positional)
    ]
    found += [Argument(arg.arg, default is not None) for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    return Function(target, where, tuple(found), spec.kwarg is not None)
