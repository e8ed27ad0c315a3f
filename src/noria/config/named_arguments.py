"""What ``train`` and ``features`` take by name: further tables (``model.also``), and the parameters of ``features``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.config.document import DocumentItem, nearest
from noria.config.functions import Function, PythonSource
from noria.config.project import DataSource, Model
from noria.config.search import TRAIN, by_column, section_of
from noria.config.shapes import Section

ALSO = "also"
FEATURES = "features"  # the key of the model, and the section of the params file


def read_also(model: Section, rows: str, data: Mapping[str, DataSource], steps: Sequence[str]) -> tuple[str, ...]:
    """The further datasets and steps that the model needs. ``steps``: those that stand for one result.

    Raises ConfigError for one that is not there, or cannot be sealed as a table.
    """
    names: tuple[str, ...] = model.get(ALSO, ())
    for index, name in enumerate(names):
        item = model.element(ALSO, index)
        if name not in data and name not in steps:
            raise item.error(f"there is no step or dataset {name!r}", nearest(name, [*steps, *data]))
        if name == rows:
            raise item.error(
                f"{name!r} is the labelled table: it holds the rows that training must not see",
                "Let a step make a table of what the model needs.",
            )
        if name in data and data[name].opaque:
            raise item.error(f"dataset {name!r} has files that are no tables", "Let a step make a table of them.")
        if name in by_column(model):
            raise item.error(f"the argument {name!r} is given by a column of the table", "Call the dataset or step otherwise.")
    return names


def read_feature_params(model: Section, source: PythonSource, params: Mapping[str, Any], also: Sequence[str]) -> tuple[str, ...]:
    """The parameters that ``features`` takes by name: of its own section of the params file first, then of the top level.

    Raises ConfigError for an argument that nothing gives.
    """
    found = params.get(FEATURES)
    own: Mapping[str, Any] = found if isinstance(found, dict) else {}
    if FEATURES not in model:
        return ()
    item = model.at(FEATURES)
    function = source.find(item)
    if function is None:  # its signature cannot be read: it is offered its own section
        return tuple(name for name in own if name not in also)
    wanted = []
    for argument in function.arguments[1:]:
        if argument.name in also:
            continue
        if argument.by_name and (argument.name in own or argument.name in params):
            wanted.append(argument.name)
        elif not argument.default:
            message = f"{function.target} takes {argument.name!r} ({function.where}), which nothing provides"
            hint = f"Write {FEATURES}: {{{argument.name}: ...}} in the params file, name a table in {ALSO}, or give it a default."
            raise item.error(message, hint)
    if function.open:
        wanted += [name for name in own if name not in wanted and name not in also]
    return tuple(wanted)


def demand_also_taken(read: Model, model: Section, source: PythonSource, params: Mapping[str, Any]) -> None:
    """Raises ConfigError for a further table that no function takes, or that a parameter of training is called like."""
    if not read.also:
        return
    for index, name in enumerate(read.also):
        item = model.element(ALSO, index)
        if name in section_of(params):
            raise item.error(f"{name!r} is also a parameter of training: params.{TRAIN}.{name}", "Rename one of them.")
        if not any(_takes(source, target, first, name) for target, first in _items(model)):
            targets = " nor ".join(dict.fromkeys(str(one.value) for one, _ in _items(model)))
            signature = f"def {TRAIN}(features, label, *, {name})"
            raise item.error(f"{targets} takes no argument {name!r}", f"{signature}, or def {FEATURES}(rows, *, {name})")


def _items(model: Section) -> list[tuple[DocumentItem, int]]:
    """The functions of a model, each with how many arguments it gets by position."""
    search: Section | None = model.get("search")
    algorithms: Mapping[str, Section] = search.get("algorithms", {}) if search is not None else {}
    found = [(model.at(TRAIN), 2)] if TRAIN in model else []
    found += [(one.at(TRAIN), 2) for one in algorithms.values()]
    return found + ([(model.at(FEATURES), 1)] if FEATURES in model else [])


def _takes(source: PythonSource, item: DocumentItem, first: int, name: str) -> bool:
    """Whether a function may take ``name`` after its first arguments; one that cannot be read may."""
    function: Function | None = source.find(item)
    if function is None or function.open:
        return True
    return any(argument.name == name and argument.by_name for argument in function.arguments[first:])
