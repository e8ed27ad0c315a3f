"""References between datasets: how one is written, in which order datasets are judged, and which references cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from noria.config.document import nearest
from noria.config.project import DataSource
from noria.config.shapes import Section
from noria.kernel import names
from noria.kernel.contract import ColumnReference, Contract, PersonalDataRule

REFERENCE_PATTERN = rf"^{names.NAME.pattern}\..+$"
NUMBERS = ("int", "float", "decimal")
WRITTEN = "references: {COLUMN: DATASET.COLUMN}"


def parse_reference(value: Any) -> tuple[str, str]:
    """``customers.id``: the dataset, whose name has no dot, and its column. Raises ValueError."""
    dataset, dot, column = value.partition(".") if isinstance(value, str) else ("", "", "")
    if not dot or not names.is_name(dataset) or not column.strip():
        raise ValueError
    return dataset, column


def referenced_first(data: Mapping[str, DataSource]) -> list[str]:
    """The names of datasets, each behind those that it refers to, else in their own order. A circle is cut somewhere."""
    order: dict[str, None] = {}
    begun: set[str] = set()

    def visit(name: str) -> None:
        if name in begun or name not in data:
            return
        begun.add(name)
        for one in data[name].references:
            visit(one.dataset)
        order[name] = None

    for name in data:
        visit(name)
    return list(order)


def demand_references(data: Mapping[str, DataSource], sections: Mapping[str, Section]) -> None:
    """Raise ConfigError, at the contract of its dataset, for a reference that no file could be held against."""
    for name, source in data.items():
        for one in source.references:
            problem = _problem(data, source, one)
            if problem is not None:
                text, hint = problem
                what = f"{source.contract_file} says that {one.column} refers to {one.target}"
                raise sections[name].at("contract").error(f"{what}, {text}", hint)
    for name in data:
        circle = next(_circles(data, [name]), None)
        if circle is not None:
            text = f"the references of contracts go in a circle: {' -> '.join(circle)}"
            raise sections[name].at("contract").error(text, "No file of any could be accepted first: leave one reference out.")


def _problem(data: Mapping[str, DataSource], source: DataSource, one: ColumnReference) -> tuple[str, str] | None:
    """What is wrong with a reference, and how to mend it."""
    other = data.get(one.dataset)
    if other is None:
        return f"and noria.yaml has no dataset {one.dataset!r}", nearest(one.dataset, data) or WRITTEN
    if other.opaque:
        return f"and {one.dataset} has no columns: its files are stored as they are", "Refer to a dataset of tables."
    if other.source.startswith("log:"):
        return f"and {one.dataset} is served predictions, of which no file is accepted", "Refer to a dataset with files."
    if other is source and one.column == one.key:
        return "which is itself, so that every value would do", "Refer to another column."
    return _treatment_problem(source, other, one) or _type_problem(source, other, one)


def _treatment_problem(source: DataSource, other: DataSource, one: ColumnReference) -> tuple[str, str] | None:
    own, there = (_personal_rule(each) for each in (source, other))
    if one.key in there.drop:
        return f"which {other.contract_file} drops before a file is judged", "Refer to a column that is stored."
    if (one.column in own.hash) != (one.key in there.hash):
        hashed, plain = (one.column, one.target) if one.column in own.hash else (one.target, one.column)
        hint = "Hash both, or neither: equal values have equal hashes in all datasets."
        return f"and {hashed} is hashed before a file is judged, while {plain} is not", hint
    return None


def _personal_rule(source: DataSource) -> PersonalDataRule:
    return (source.contract or Contract()).personal_data or PersonalDataRule()


def _type_problem(source: DataSource, other: DataSource, one: ColumnReference) -> tuple[str, str] | None:
    own, there = _said_type(source, one.column), _said_type(other, one.key)
    for column, kind in ((one.column, own), (one.target, there)):
        if kind.startswith(("list", "struct")):
            return f"and {column} is a {kind}, which names no row", "Refer by text, numbers, dates, times or truth values."
    if own and there and own != there and not (own.startswith(NUMBERS) and there.startswith(NUMBERS)):
        return f"and {one.column} is a {own}, while {one.target} is a {there}", "Give both columns one type."
    return None


def _said_type(source: DataSource, column: str) -> str:
    """The type that the contract gives a column, empty where it says none."""
    rules = source.contract.columns if source.contract is not None else ()
    return next((rule.type or "" for rule in rules if rule.name == column), "")


def _circles(data: Mapping[str, DataSource], path: list[str]) -> Iterator[list[str]]:
    """The circles through the first dataset of a path. A dataset that refers to itself makes none."""
    for one in data[path[-1]].references:
        if one.dataset == path[0] and len(path) > 1:
            yield [*path, path[0]]
        elif one.dataset not in path:
            yield from _circles(data, [*path, one.dataset])
