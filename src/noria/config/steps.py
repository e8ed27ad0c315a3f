"""Steps: which datasets, steps and parameters each takes, and an order in which they can run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import product
from pathlib import PurePosixPath
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.config.condition import dotted_names, find, holds
from noria.config.document import DocumentItem, nearest
from noria.config.functions import Function, PythonSource, exists
from noria.config.project import Step
from noria.config.reading import touch
from noria.config.search import demand_columns
from noria.config.shapes import Section
from noria.kernel.errors import ConfigError

WIDEST = 10_000  # steps that a matrix may stand for
TRAIN = "train"  # the section of the params file that the training function reads


class Steps(msgspec.Struct, frozen=True):
    """``each`` stands in an order in which it can run; ``wide``: a step with foreach or matrix -> what it stands for."""

    each: dict[str, Step]
    wide: dict[str, tuple[str, ...]]


def read_steps(root: Section, source: PythonSource, data: Iterable[str], params: Mapping[str, Any]) -> Steps:
    """The project's steps. Raises ConfigError."""
    sections: dict[str, Section] = root.get("steps", {})
    _demand_free_names(root, sections, data)
    items = {name: _items(section, params) for name, section in sections.items()}
    commands = {name: section for name, section in sections.items() if "cmd" in section}
    outs = {(name, label): _outs(section, item) for name, section in commands.items() for label, item in items[name]}
    world = _World(source, tuple(data), tuple(sections), params, frozenset(out for one in outs.values() for out in one.every))
    each: dict[str, Step] = {}
    wide: dict[str, tuple[str, ...]] = {}
    places: dict[str, DocumentItem] = {}
    for name, section in sections.items():
        made = [_step(_step_name(name, label), section, world, item, outs.get((name, label))) for label, item in items[name]]
        each |= {step.name: step for step in made}
        places |= {step.name: section.item for step in made}
        if "foreach" in section or "matrix" in section:
            wide[name] = tuple(step.name for step in made)
    each = _connect(each, wide, sections, places)
    return Steps({name: each[name] for name in _order(each, places)}, wide)


def demand_train_params(
    item: DocumentItem, source: PythonSource, params: Mapping[str, Any], columns: Mapping[str, DocumentItem]
) -> None:
    """Raises ConfigError when the section ``train`` of the params file does not fit the training function.

    ``item`` is ``model.train``. Its first two arguments are the features and the label. ``columns``: see
    ``search.given_by_name``.
    """
    function = source.find(item)
    if function is None:
        return
    demand_columns(function, columns)
    given = _own(params, TRAIN)
    known = [argument.name for argument in function.arguments[2:] if argument.by_name]
    for name in given:
        if name not in known and not function.open:
            message = f"params.{TRAIN}.{name} is not an argument of {function.target} ({function.where})"
            raise item.error(message, nearest(name, known))
    for argument in function.arguments[2:]:
        if not argument.default and argument.name not in given and argument.name not in columns:
            message = f"{function.target} takes {argument.name!r} ({function.where}), which nothing provides"
            raise item.error(message, f"Write {TRAIN}: {{{argument.name}: ...}} in the params file, or give it a default.")


def _demand_free_names(root: Section, steps: Iterable[str], data: Iterable[str]) -> None:
    taken = set(data)
    for name in steps:
        item: DocumentItem = root.at("steps").value[name]
        if name in taken:
            raise item.error(f"{name!r} is already a dataset; a step needs a name of its own")


class _Outs(msgspec.Struct, frozen=True):
    """What a command leaves; ``every`` holds its metrics and plots too."""

    every: tuple[str, ...]
    metrics: tuple[str, ...]
    plots: tuple[str, ...]


class _World(msgspec.Struct, frozen=True):
    """What steps may name."""

    source: PythonSource
    data: tuple[str, ...]
    steps: tuple[str, ...]
    params: Mapping[str, Any]
    outs: frozenset[str]  # every path that some command leaves

    @property
    def takes(self) -> list[str]:
        return [*self.data, *self.steps]


def _items(section: Section, params: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Label and arguments of each step that a section stands for; a plain one has the label ''."""
    if "foreach" in section and "matrix" in section:
        raise section.at("matrix").error("a step has either foreach or matrix")
    if "foreach" in section:
        found = _each_of(section, params)
    elif "matrix" in section:
        found = _combinations(section, params)
    else:
        return [("", {})]
    labels = [label for label, _ in found]
    for label in labels:
        if labels.count(label) > 1:
            raise section.item.error(f"two of its steps would have the name {label!r}")
    return found


def _each_of(section: Section, params: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    given = _list_or_param(section.get("foreach"), section.at("foreach"), params)
    if isinstance(given, dict):
        return [(_label(key), {"key": key, "item": value}) for key, value in given.items()]
    if not isinstance(given, list) or not given:
        raise section.at("foreach").error("expected a list, a mapping or the name of a parameter that is one, not empty")
    plain = all(not isinstance(value, dict | list) for value in given)
    return [(_label(value) if plain else str(index), {"item": value}) for index, value in enumerate(given)]


def _combinations(section: Section, params: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    axes: dict[str, list[Any]] = {}
    for name, value in section.get("matrix").items():
        place = section.at("matrix").value[name]
        found = _list_or_param(value, place, params)
        if not isinstance(found, list) or not found:
            raise place.error(f"{name}: expected a list, or the name of a parameter that is one, with something in it")
        axes[name] = found
    if not axes:
        raise section.at("matrix").error("expected lists by name")
    if len(list(product(*axes.values()))) > WIDEST:
        raise section.at("matrix").error(f"makes more than {WIDEST:,} steps")
    return [
        ("-".join(_label(value) for value in values), dict(zip(axes, values, strict=True))) for values in product(*axes.values())
    ]


def _list_or_param(value: Any, place: DocumentItem, params: Mapping[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return find(params, value)
    except KeyError:
        raise place.error(f"there is no parameter {value!r}", nearest(value, dotted_names(params))) from None


def _label(value: Any) -> str:
    """A value as part of a name."""
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"[^\w.+-]+", "_", str(value)) or "_"


def _step_name(name: str, label: str) -> str:
    return f"{name}@{label}" if label else name


def _step(name: str, section: Section, world: _World, item: dict[str, Any], outs: _Outs | None) -> Step:
    if ("call" in section) == ("cmd" in section):
        raise section.item.error(f"step {name} needs either call or cmd", 'call: "module:function", or cmd: a shell command.')
    common = section.given(
        timeout_s="timeout", memory_bytes="memory", cpus="cpus", retries="retries", frozen="frozen", always="always", when="when"
    )
    common |= {"env": section.get("env", {}), "item": item, "wanted": _is_wanted(section, world.params)}
    if common.get("frozen") and common.get("always"):
        raise section.at("always").error("a step is either frozen or runs always")
    if outs is not None:
        return _command(name, section, world, item, outs, common)
    for key in ("deps", "outs", "metrics", "plots", "params", "wdir"):
        if key in section:
            raise section.at(key).error(f"{key} is for commands; a function has its arguments and result instead")
    deps, wanted, taken = _wire(name, section.at("call"), world, item)
    return Step(name, call=section.get("call"), deps=deps, params=wanted, **common | {"item": {k: item[k] for k in taken}})


def _command(name: str, section: Section, world: _World, item: dict[str, Any], outs: _Outs, common: dict[str, Any]) -> Step:
    deps, files = [], []
    for index, text in enumerate(section.get("deps", ())):
        given = _fill_in(text, item)
        if given in world.takes:
            deps.append(given)
        elif _is_path(given, world):
            files.append(_path(given, section.element("deps", index)))
        else:
            hint = nearest(given, world.takes) or "A file is named by its path: data/raw.csv, or ./raw."
            raise section.element("deps", index).error(f"there is no dataset, step or file {given!r}", hint)
    for index, wanted in enumerate(section.get("params", ())):
        try:
            find(world.params, wanted)
        except KeyError:
            place = section.element("params", index)
            raise place.error(f"there is no parameter {wanted!r}", nearest(wanted, dotted_names(world.params))) from None
    return Step(
        name,
        cmd=_fill_in(section.get("cmd").replace("$${", "${"), item),  # commits of before had to write $${ for the shell's ${
        deps=tuple(dict.fromkeys(deps)),
        files=tuple(dict.fromkeys(files)),
        params=section.get("params", ()),
        outs=outs.every,
        metrics=outs.metrics,
        plots=outs.plots,
        directory=_path(_fill_in(section.get("wdir"), item), section.at("wdir")) if "wdir" in section else ".",
        **common,
    )


def _is_wanted(section: Section, params: Mapping[str, Any]) -> bool:
    if "when" not in section:
        return True
    try:
        return holds(section.get("when"), params)
    except ConfigError as error:
        raise section.at("when").error(error.message, error.hint) from error


def _fill_in(text: str, item: Mapping[str, Any]) -> str:
    """``{item}``, ``{item.lr}``, ``{key}`` or the name of an axis, replaced; all other braces stay as they are."""

    def replace(match: re.Match[str]) -> str:
        try:
            value = find(item, match.group(1))
        except KeyError:
            return match.group(0)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return re.sub(r"\{([A-Za-z_][\w.]*)\}", replace, text) if item else text


def _outs(section: Section, item: Mapping[str, Any]) -> _Outs:
    plain, metrics, plots = (_paths(section, key, item) for key in ("outs", "metrics", "plots"))
    return _Outs(tuple(dict.fromkeys((*plain, *metrics, *plots))), metrics, plots)


def _paths(section: Section, key: str, item: Mapping[str, Any]) -> tuple[str, ...]:
    given = section.get(key)
    return tuple(_path(_fill_in(text, item), section.element(key, i)) for i, text in enumerate(given)) if given else ()


def _path(text: str, place: DocumentItem) -> str:
    """A path in the project, in its plainest form."""
    path, problem = _plain(text)
    if problem:
        raise place.error(f"{text} {problem}")
    return path


@lru_cache(maxsize=4096)  # each out is asked for several times
def _plain(text: str) -> tuple[str, str]:
    """A path in its plainest form, and what is wrong with it."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        return text, "lies outside the project's folder"
    if path.parts and path.parts[0] in (".git", ".noria"):
        return text, "lies in a folder that does not belong to the project"
    return path.as_posix(), ""


def _is_path(text: str, world: _World) -> bool:
    if "/" in text or "." in text or text in world.outs:
        return True
    return exists(world.source.home / text) or touch(world.source.home / text).is_dir()


def _connect(
    each: Mapping[str, Step],
    wide: Mapping[str, tuple[str, ...]],
    sections: Mapping[str, Section],
    places: Mapping[str, DocumentItem],
) -> dict[str, Step]:
    """Each step with the steps that must come before it: those it names, and those that leave a path it reads."""
    makers: dict[str, str] = {}
    for name, step in each.items():
        for out in step.outs:
            other = makers.get(out) or next((makers[m] for m in folders_of(out) if m in makers), None)
            if other is not None and other != name:
                raise places[name].error(f"{out} is also written by step {other}; each path belongs to one step")
            makers[out] = name
    inner: dict[str, list[str]] = {}
    for out in makers:
        for folder in folders_of(out):
            inner.setdefault(folder, []).append(out)
    for out, name in makers.items():
        for below in inner.get(out, ()):
            if makers[below] != name:
                raise places[makers[below]].error(
                    f"{below} is also written by step {name} ({out}); each path belongs to one step"
                )
    found = {}
    for name, step in each.items():
        needs = [n for dep in step.deps for n in wide.get(dep, (dep,)) if n in each]
        for path in step.files:
            if makers.get(path) == name or any(makers.get(p) == name for p in folders_of(path)):
                raise places[name].error(f"step {name} reads {path}, which it writes itself")
            needs += [makers[p] for p in (path, *folders_of(path), *inner.get(path, ())) if p in makers]
        found[name] = replace(step, needs=tuple(dict.fromkeys(needs)))
    return found


def folders_of(path: str) -> list[str]:
    """The folders that a path lies in, inside the project."""
    found = []
    while "/" in path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found


def _wire(
    name: str, place: DocumentItem, world: _World, given: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """What a function takes by the names of its arguments: datasets and steps, parameters, and what a foreach gives."""
    function = world.source.find(place)
    if function is None:
        raise place.error(f"the arguments of {place.value} cannot be read", "Name a plain function (def) of the project.")
    own = _own(world.params, name.partition("@")[0])
    deps, wanted, taken = [], [], []
    for argument in function.arguments:
        if not argument.by_name:
            raise place.error(
                f"{function.target} takes {argument.name!r} by position only ({function.where}); steps are wired by name"
            )
        if argument.name in given:
            taken.append(argument.name)
        elif argument.name in world.takes:
            deps.append(argument.name)
        elif argument.name in own or argument.name in world.params:
            wanted.append(argument.name)
        elif not argument.default:
            raise _nothing_gives(function, argument.name, place, [*given, *world.takes, *own, *world.params])
    if function.open:
        wanted += [key for key in own if key not in wanted and key not in deps and key not in given]
        taken += [key for key in given if key not in taken]
    return tuple(deps), tuple(wanted), tuple(taken)


def _nothing_gives(function: Function, argument: str, item: DocumentItem, known: list[str]) -> Exception:
    message = f"{function.target} takes {argument!r} ({function.where}), which is neither a dataset, a step nor a parameter"
    return item.error(message, nearest(argument, known))


def _own(params: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """A section of the params file, when it is one."""
    found = params.get(section)
    return found if isinstance(found, dict) else {}


def _order(steps: Mapping[str, Step], places: Mapping[str, DocumentItem]) -> list[str]:
    try:
        return list(TopologicalSorter({name: step.needs for name, step in steps.items()}).static_order())
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]  # graphlib lists each before what needs it
        words = " takes ".join(circle)
        raise places[circle[0]].error(f"the steps form a cycle: {words}") from error
