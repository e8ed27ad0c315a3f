"""Steps: which datasets, steps and parameters each takes, and an order in which they can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath
from typing import Any

from noria.config.document import Item, nearest
from noria.config.functions import Function, Source
from noria.config.project import Step
from noria.config.shapes import Section

RESERVED = ("train", "package")  # stages of the line that keep results beside the project's steps
TRAIN = "train"  # the section of the params file that the training function reads


def read_steps(root: Section, source: Source, data: Iterable[str], params: Mapping[str, Any]) -> dict[str, Step]:
    """The project's steps in an order in which they can run. Raises ConfigError."""
    sections: dict[str, Section] = root.get("steps", {})
    _demand_free_names(root, sections, data)
    takes = [*data, *sections]
    steps = {name: _step(name, section, source, takes, params) for name, section in sections.items()}
    return {name: steps[name] for name in _order(steps, sections)}


def demand_train_params(item: Item, source: Source, params: Mapping[str, Any]) -> None:
    """Raises ConfigError when the section ``train`` of the params file does not fit the training function.

    ``item`` is ``model.train``. Its first two arguments are the features and the label.
    """
    function = source.find(item)
    if function is None:
        return
    given = _own(params, TRAIN)
    known = [argument.name for argument in function.arguments[2:] if argument.by_name]
    for name in given:
        if name not in known and not function.open:
            message = f"params.{TRAIN}.{name} is no argument of {function.target} ({function.where})"
            raise item.error(message, nearest(name, known))
    for argument in function.arguments[2:]:
        if not argument.default and argument.name not in given:
            message = f"{function.target} takes {argument.name!r} ({function.where}), which nothing gives"
            raise item.error(message, f"Write {TRAIN}: {{{argument.name}: ...}} in the params file, or give it a default.")


def _demand_free_names(root: Section, steps: Iterable[str], data: Iterable[str]) -> None:
    taken = set(data)
    for name in steps:
        item: Item = root.at("steps").value[name]
        if name in RESERVED:
            raise item.error(f"a step cannot be called {name!r}: the delivery line has a stage of that name")
        if name in taken:
            raise item.error(f"{name!r} is already a dataset; a step needs a name of its own")


def _step(name: str, section: Section, source: Source, takes: list[str], params: Mapping[str, Any]) -> Step:
    if ("call" in section) == ("cmd" in section):
        raise section.item.error(f"step {name} needs either call or cmd", 'call: "module:function", or cmd: a shell command.')
    limits = section.given(timeout_s="timeout", memory_bytes="memory")
    if "cmd" in section:
        return Step(name, cmd=section.get("cmd"), deps=_deps(section, takes), outs=_outs(section), **limits)
    for key in ("deps", "outs"):
        if key in section:
            raise section.at(key).error(f"{key} is for commands; a function's arguments and result say the same")
    deps, wanted = _wire(name, section.at("call"), source, takes, params)
    return Step(name, call=section.get("call"), deps=deps, params=wanted, **limits)


def _deps(section: Section, takes: list[str]) -> tuple[str, ...]:
    deps: tuple[str, ...] = section.get("deps", ())
    for index, name in enumerate(deps):
        if name not in takes:
            raise section.element("deps", index).error(f"there is no dataset or step {name!r}", nearest(name, takes))
    return deps


def _outs(section: Section) -> tuple[str, ...]:
    outs: tuple[str, ...] = section.get("outs", ())
    if len(outs) > 1:
        raise section.at("outs").error("a command leaves one file", "Write one table, or make it two steps.")
    for index, out in enumerate(outs):
        path = PurePosixPath(out)
        if path.is_absolute() or ".." in path.parts:
            raise section.element("outs", index).error(f"{out} lies outside the project's folder")
    return outs


def _wire(
    name: str, item: Item, source: Source, takes: list[str], params: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a function takes by the names of its arguments: datasets and steps, then parameters."""
    function = source.find(item)
    if function is None:
        raise item.error(f"the arguments of {item.value} cannot be read", "Name a plain function (def) of the project.")
    own = _own(params, name)
    deps, wanted = [], []
    for argument in function.arguments:
        if not argument.by_name:
            raise item.error(
                f"{function.target} takes {argument.name!r} by position only ({function.where}); steps are wired by name"
            )
        if argument.name in takes:
            deps.append(argument.name)
        elif argument.name in own or argument.name in params:
            wanted.append(argument.name)
        elif not argument.default:
            raise _nothing_gives(function, argument.name, item, [*takes, *own, *params])
    if function.open:
        wanted += [key for key in own if key not in wanted and key not in deps]
    return tuple(deps), tuple(wanted)


def _nothing_gives(function: Function, argument: str, item: Item, known: list[str]) -> Exception:
    message = f"{function.target} takes {argument!r} ({function.where}), which is no dataset, no step and no parameter"
    return item.error(message, nearest(argument, known))


def _own(params: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """A section of the params file, when it is one."""
    found = params.get(section)
    return found if isinstance(found, dict) else {}


def _order(steps: Mapping[str, Step], sections: Mapping[str, Section]) -> list[str]:
    graph = {name: [dep for dep in step.deps if dep in steps] for name, step in steps.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]  # graphlib lists each before what needs it
        words = " takes ".join(circle)
        raise sections[circle[0]].item.error(f"the steps go in a circle: {words}") from error
