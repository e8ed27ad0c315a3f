"""The search under ``model``: algorithms, the space of each one's hyperparameters, and what a function takes of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from noria.config.document import DocumentItem, nearest
from noria.config.functions import Function, PythonSource
from noria.config.project import Algorithm, Dimension, Search
from noria.config.shapes import Section
from noria.kernel.task import Task
from noria.kernel.words import plural

LOG = "log"
CHOICE = "choice"
CHOICES = 1000  # values that one hyperparameter may be chosen from
HINT = "Write [low, high], [low, high, log], {choice: [...]}, a list of words, or one value."
TRAIN = "train"  # the section of the params file that training functions read
WEIGHTS = "sample_weight"
COLUMNS = {"weight": WEIGHTS, "groups": "groups"}  # keys of the model -> arguments of the training function


def read_search(model: Section, task: Task, source: PythonSource, params: Mapping[str, Any]) -> Search | None:
    """The search of ``model.search``; None without one. Raises ConfigError, also for parameters that no function takes."""
    section: Section | None = model.get("search")
    if section is None:
        return None
    given = section_of(params)
    algorithms = _algorithms(model, section, source, given)
    if all(d.fixed for a in algorithms.values() for d in a.space.values()) and len(algorithms) < 2:
        raise section.at("space").error("there is nothing to search: no hyperparameter has a range or choices", HINT)
    _demand_taken(section, algorithms, given)
    return Search(
        metric=_metric(section, task),
        algorithms=algorithms,
        **section.given(trials="trials", folds="folds", timeout_s="timeout"),
        parallel=None if section.get("parallel", "auto") == "auto" else section.get("parallel"),
    )


def section_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """What training functions get from the params file: its section ``train``; a file without sections is all for them."""
    found = params.get(TRAIN, {} if any(isinstance(v, dict) for v in params.values()) else params)
    return dict(found) if isinstance(found, dict) else {}


def _metric(section: Section, task: Task) -> str:
    definition = task.definition
    if "metric" not in section:
        return definition.loss
    name: str = section.get("metric")
    if name not in definition.metrics:
        raise section.at("metric").error(f"{name!r} is not a metric of a {task} model", nearest(name, definition.metrics))
    return name


def _algorithms(model: Section, section: Section, source: PythonSource, given: Mapping[str, Any]) -> dict[str, Algorithm]:
    """By name; without any, the one that ``model.train`` names."""
    columns = given_by_name(model)
    shared: Mapping[str, Any] = section.get("space", {})
    shared_items = section.at("space").value if shared else {}
    sections: dict[str, Section] = section.get("algorithms", {})
    if "algorithms" in section and not sections:
        raise section.at("algorithms").error("expected at least one algorithm", 'algorithms: {trees: {train: "module:function"}}')
    if not sections:
        target = model.at(TRAIN)
        name = str(model.get(TRAIN)).partition(":")[2]
        return {name: _algorithm(name, target, shared_items, source, given, columns)}
    found = {}
    for name, one in sections.items():
        own = one.at("space").value if one.get("space") else {}
        found[name] = _algorithm(name, one.at(TRAIN), {**shared_items, **own}, source, given, columns)
    return found


def by_column(model: Section) -> dict[str, DocumentItem]:
    """The arguments of a training function that columns of the table give, and where the columns are named."""
    found = {argument: model.at(key) for key, argument in COLUMNS.items() if key in model}
    if "query" in model:  # rows of a query are a group, unless groups are named
        found.setdefault(COLUMNS["groups"], model.at("query"))
    return found


def given_by_name(model: Section) -> dict[str, DocumentItem]:
    """The arguments of a training function that columns and further tables give, and where those are named."""
    also: tuple[str, ...] = model.get("also", ())
    return by_column(model) | {name: model.element("also", index) for index, name in enumerate(also)}


def demand_columns(function: Function, columns: Mapping[str, DocumentItem]) -> None:
    """Raises ConfigError for weights that no training function takes; groups also serve the split."""
    known = [argument.name for argument in function.arguments]
    if WEIGHTS in columns and WEIGHTS not in known and not function.open:
        raise columns[WEIGHTS].error(
            f"{function.target} takes no {WEIGHTS!r} ({function.where})", f"def train(features, label, *, {WEIGHTS}, ...)"
        )


def _algorithm(
    name: str,
    target: DocumentItem,
    space: Mapping[str, DocumentItem],
    source: PythonSource,
    given: Mapping[str, Any],
    columns: Mapping[str, DocumentItem],
) -> Algorithm:
    function = source.find(target)
    dimensions = {key: dimension(item) for key, item in space.items()}
    if function is None:  # its signature cannot be read: it gets everything
        return Algorithm(name, str(target.value), dimensions, tuple(given))
    known = [argument.name for argument in function.arguments[2:] if argument.by_name]
    for key, item in space.items():
        if key not in known and not function.open:
            raise item.error(f"{key!r} is not an argument of {function.target} ({function.where})", nearest(key, known))
    demand_columns(function, columns)
    _demand_given(function, target, [*space, *given, *columns])
    return Algorithm(name, str(target.value), dimensions, tuple(k for k in given if k in known or function.open))


def _demand_given(function: Function, target: DocumentItem, names: list[str]) -> None:
    for argument in function.arguments[2:]:
        if not argument.default and argument.name not in names:
            raise target.error(
                f"{function.target} takes {argument.name!r} ({function.where}), which nothing provides",
                f"Write it into its space, or {TRAIN}: {{{argument.name}: ...}} in the params file, or give it a default.",
            )


def _demand_taken(section: Section, algorithms: Mapping[str, Algorithm], given: Mapping[str, Any]) -> None:
    """Every parameter of the section ``train`` is for some algorithm."""
    for name in given:
        if not any(name in algorithm.takes for algorithm in algorithms.values()):
            words = " and no ".join(sorted({a.train for a in algorithms.values()}))
            raise section.item.error(f"params.{TRAIN}.{name} is not an argument of {words}")


def dimension(item: DocumentItem) -> Dimension:
    """One entry of a space. Raises ConfigError for what is none."""
    value = item.value
    if isinstance(value, dict):
        if set(value) != {CHOICE} or not isinstance(value[CHOICE].value, list):
            raise item.error(f"expected a range or choices, found {item.kind}", HINT)
        return Dimension(choices=_choices(value[CHOICE]))
    if not isinstance(value, list):
        if value is None:
            raise item.error("expected a range or choices, found nothing", HINT)
        return Dimension(choices=(value,))
    numbers = [child for child in value if type(child.value) in (int, float)]
    log = len(value) == 3 and value[2].value == LOG
    if len(numbers) == 2 and (len(value) == 2 or log):
        return _range(value[0], value[1], log)
    if numbers:
        raise item.error(f"expected a range or choices, found a list of {plural(len(value), 'value')}", HINT)
    return Dimension(choices=_choices(item))


def _range(low: DocumentItem, high: DocumentItem, log: bool) -> Dimension:
    if low.value >= high.value:
        raise high.error(f"the range ends at {high.text}, which is not above {low.text}", HINT)
    if log and low.value <= 0:
        raise low.error(f"a range with log must start above zero, not at {low.text}")
    whole = type(low.value) is int and type(high.value) is int
    begin, end = (low.value, high.value) if whole else (float(low.value), float(high.value))
    if not math.isfinite(float(end) - float(begin)):
        raise high.error("the range is too wide for a number")
    return Dimension(begin, end, log)


def _choices(item: DocumentItem) -> tuple[Any, ...]:
    values: list[Any] = []
    for child in item.value:
        if isinstance(child.value, dict | list) or child.value is None:
            raise child.error(f"expected text, a number, true or false, found {child.kind}", HINT)
        if any(child.value == other and type(child.value) is type(other) for other in values):
            raise child.error(f"{child.value!r} is listed twice")
        values.append(child.value)
    if not values:
        raise item.error("expected at least one choice", HINT)
    if len(values) > CHOICES:
        raise item.error(f"has more than {CHOICES:,} choices")
    return tuple(values)


def demand_train(model: Section) -> str:
    """The function that trains: ``model.train``, or the first of the search's algorithms. Raises ConfigError without either."""
    search: Section | None = model.get("search")
    algorithms: Mapping[str, Section] = search.get("algorithms", {}) if search is not None else {}
    targets = [str(one.get(TRAIN)) for one in algorithms.values()]
    target: str | None = model.get(TRAIN)
    if target is None and not targets:
        hint = "train: Takes features, label and parameters; returns anything with predict or predict_proba."
        raise model.item.error("'train' is missing", hint)
    if target is not None and targets and target not in targets:
        raise model.at(TRAIN).error(
            f"{target} is none of the search's algorithms", "Leave train out: the search chooses one of its algorithms."
        )
    return target if target is not None else targets[0]
