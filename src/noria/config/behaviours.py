"""Reads `checks.behaviours`: what the project says of its model's behaviour."""

from __future__ import annotations

from typing import Any

from noria.config.document import nearest
from noria.config.functions import PythonSource
from noria.config.project import Model
from noria.config.shapes import Section
from noria.kernel.behaviour import Behaviour, BehaviourKind
from noria.kernel.errors import ConfigError

KINDS = tuple(str(kind) for kind in BehaviourKind)
OF_INPUTS = frozenset({BehaviourKind.IGNORES, BehaviourKind.RISES_WITH, BehaviourKind.FALLS_WITH})


def read_behaviours(root: Section, source: PythonSource, model: Model | None) -> tuple[Behaviour, ...]:
    """The behaviours in the project's order. Raises ConfigError for one that says nothing, or names what is not there."""
    checks: Section | None = root.get("checks")
    sections: dict[str, Section] = checks.get("behaviours", {}) if checks is not None else {}
    if sections and model is None:
        assert checks is not None
        raise checks.at("behaviours").error("behaviours are a model's, and this project has no model")
    return tuple(_behaviour(name, section, source, model) for name, section in sections.items() if model is not None)


def _behaviour(name: str, section: Section, source: PythonSource, model: Model) -> Behaviour:
    given = [kind for kind in BehaviourKind if kind in section]
    if len(given) != 1:
        hint = "{ignores: INPUT, by: 0.01}, {rises_with: INPUT}, {given: [{INPUT: 3}], expect: CLASS}, or module:function"
        raise section.item.error(f"a behaviour has one of {', '.join(KINDS)}", hint)
    kind = given[0]
    _demand_fitting(section, kind)
    found = Behaviour(name, kind, **section.given(by="by", allow="allow", between="between"), **_subject(section, kind))
    if found.by < 0:
        raise section.at("by").error("by cannot be below zero")
    if kind is BehaviourKind.CALL:
        source.find(section.at("call"))
    if kind in OF_INPUTS:
        _demand_input(found.subject, section, str(kind), model)
    if kind in (BehaviourKind.RISES_WITH, BehaviourKind.FALLS_WITH) and model.task.definition.answers_rows:
        message = f"a prediction of a {model.task} model has no direction"
        raise section.at(str(kind)).error(message, "Write a function of the project.")
    if kind is BehaviourKind.GIVEN:
        _demand_expectation(found, section, model)
    return found


def _subject(section: Section, kind: BehaviourKind) -> dict[str, Any]:
    if kind is BehaviourKind.GIVEN:
        expect = section.get("expect")
        known = int(expect) if isinstance(expect, bool) else expect  # classes of a boolean label are 0 and 1
        return {"rows": section.get("given"), "expect": None if known is None else str(known)}
    return {"subject": section.get(str(kind))}


def _demand_fitting(section: Section, kind: BehaviourKind) -> None:
    """Other keys belong to some kinds alone."""
    fitting = {"expect": {BehaviourKind.GIVEN}, "between": {BehaviourKind.GIVEN}, "by": OF_INPUTS}
    for key, kinds in fitting.items():
        if key in section and kind not in kinds:
            raise section.at(key).error(f"{key} does not belong to {kind}", f"Leave out {key}.")


def _demand_input(name: str, section: Section, key: str, model: Model) -> None:
    if model.inputs and name not in model.inputs:  # without a list, evaluation knows the table's columns
        raise section.at(key).error(f"there is no input {name!r}", nearest(name, model.inputs))


def _demand_expectation(found: Behaviour, section: Section, model: Model) -> None:
    if not found.rows:
        raise section.at("given").error("there is no row to ask")
    if (found.expect is None) == (found.between is None):
        raise section.item.error("given rows have either expect (a class) or between (a range)", "expect: 1")
    if found.expect is not None and not model.task.definition.has_classes:
        raise section.at("expect").error(f"a {model.task} model has no classes", "between: [10, 20]")
    if found.between is not None and model.task.definition.answers_rows:
        raise section.at("between").error(f"a prediction of a {model.task} model is no single number", "expect: CLASS")
    if found.between is not None and found.between[0] > found.between[1]:
        raise section.at("between").error(f"{found.between[0]:g} is above {found.between[1]:g}")
    for index, row in enumerate(found.rows):
        for name in row:
            if model.inputs and name not in model.inputs:
                raise _no_input(section, index, name, model)


def _no_input(section: Section, index: int, name: str, model: Model) -> ConfigError:
    return section.element("given", index).error(f"there is no input {name!r}", nearest(name, model.inputs))
