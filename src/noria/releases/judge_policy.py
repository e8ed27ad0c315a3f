"""What a commit changes of the policy that its candidate is judged by: gates, contracts, environments and who decides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN = 12  # differences that a sentence names; the rest are counted
GATES = "gates"
_METRIC = re.compile(r"(?:worst|gap)\([^)]*\)|\w+")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """``gates: roc_auc >= 0.60 became roc_auc >= 0.50``: one sentence for each difference, gates first."""
    found = list(_gates(before.get(GATES, ()), after.get(GATES, ())))
    old, new = (dict(_flat({name: value for name, value in facts.items() if name != GATES})) for facts in (before, after))
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            found.append(f"{name}: {_shown(old[name])} was removed")
        elif name not in old:
            found.append(f"{name}: {_shown(new[name])} was added")
        elif old[name] != new[name]:
            found.append(f"{name}: {_shown(old[name])} became {_shown(new[name])}")
    return tuple(found)


def sentence(changes: Sequence[str]) -> str:
    """The differences in one sentence."""
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(changes[:SHOWN]) + more


def _gates(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Gates of the same metric belong together, in their order."""
    gone, come = [gate for gate in before if gate not in after], [gate for gate in after if gate not in before]
    for gate in gone:
        other = next((one for one in come if _metric(one) == _metric(gate)), None)
        if other is None:
            yield f"gates: {gate} was removed"
        else:
            come.remove(other)
            yield f"gates: {gate} became {other}"
    yield from (f"gates: {gate} was added" for gate in come)


def _metric(gate: str) -> str:
    found = _METRIC.match(gate)
    return found.group() if found is not None else gate


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values by dotted name; the items of a list that have names stand under these."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        for item in value:
            yield from _flat({key: one for key, one in item.items() if key != "name"}, f"{name}.{item['name']}")
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "none" if value is None or value == [] else str(value)
