"""The project's own metrics, and the gates that name them."""

from __future__ import annotations

from collections.abc import Iterable

from noria.config.functions import PythonSource
from noria.config.gate import built_in_metrics, resolve_gate
from noria.config.project import CustomMetric
from noria.config.shapes import Section
from noria.kernel.errors import ConfigError
from noria.kernel.policy import Gate


def read_metrics(root: Section, source: PythonSource) -> dict[str, CustomMetric]:
    """The metrics by name. Raises ConfigError for a name that gates could not say, or a function that is not there."""
    found: dict[str, CustomMetric] = {}
    taken = set(built_in_metrics())
    for name, section in root.get("metrics", {}).items():
        here = root.at("metrics").value[name]
        if "-" in name:
            raise here.error(f"gates cannot name {name!r}: they take the - for a minus", f"Call it {name.replace('-', '_')}.")
        if name in taken:
            raise here.error(f"{name} is a metric of Noria", "Choose another name.")
        source.find(section.at("call"))
        found[name] = CustomMetric(name, section.get("call"), section.get("better", "lower") == "higher")
    return found


def resolve_gates(root: Section, own: dict[str, CustomMetric], steps: Iterable[str]) -> tuple[Gate, ...]:
    """The gates, each with the direction of its metric. Raises ConfigError for a metric that is not known."""
    better = {name: metric.greater_is_better for name, metric in own.items()}
    found = []
    for index, gate in enumerate(root.get("gates", ())):
        try:
            found.append(resolve_gate(gate, better, steps))
        except ConfigError as error:
            raise root.element("gates", index).error(error.message, error.hint) from error
    return tuple(found)
