"""Reads a project's files as typed values: noria.yaml, contracts and parameters.

Promises that nothing of a file is passed over in silence, and that every error names file, line and column.
Exports ``load``, ``Project`` with its parts, ``load_contract``, ``load_params`` and ``parse_gate``.
"""

from noria.config.contracts import load_contract
from noria.config.gate import parse_gate
from noria.config.loading import load, load_params
from noria.config.project import (
    Algorithm,
    Checks,
    Console,
    DataSource,
    Dimension,
    Environment,
    GitWatch,
    Holdout,
    Model,
    Project,
    Query,
    Search,
    Serving,
    Step,
)
from noria.config.references import referenced_first

__all__ = [
    "Algorithm",
    "Checks",
    "Console",
    "DataSource",
    "Dimension",
    "Environment",
    "GitWatch",
    "Holdout",
    "Model",
    "Project",
    "Query",
    "Search",
    "Serving",
    "Step",
    "load",
    "load_contract",
    "load_params",
    "parse_gate",
    "referenced_first",
]
