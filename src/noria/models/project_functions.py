"""The project's functions, found by ``module:name``, and what their annotations ask for."""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from noria.kernel.errors import StepError


def load(target: str) -> Callable[..., Any]:
    """The function ``module:name``. Raises StepError when there is none; what the module raises passes through."""
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there; what it imports is not
        raise StepError(f"there is no module {error.name!r}", where=target, hint="Is the file in the commit?") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise StepError(f"{module_name} has no function {name!r}{_nearest(name, dir(module))}", where=target)
    return typing.cast(Callable[..., Any], function)


def parameter_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameter -> annotated type, ``X | None`` as X; Any where there is none or it cannot be resolved."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names that exist for type checkers only
        hints = {}
    return {name: _plain(hints.get(name, p.annotation)) for name, p in inspect.signature(function).parameters.items()}


def takes(function: Callable[..., Any], name: str, after: int = 0) -> bool:
    """Whether an argument may be given by this name; the first ``after`` are given by position."""
    known = inspect.signature(function).parameters
    if name in list(known)[:after]:
        return False
    by_name = name in known and known[name].kind is not inspect.Parameter.POSITIONAL_ONLY
    return by_name or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())


def _plain(annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
