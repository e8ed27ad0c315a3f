"""The import contract's small print, which import-linter does not check: no circle of files, few imports inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from test_tidy import sources

MOST = 40  # imports of our own modules inside functions
INSIDE = {  # why an import stands inside a function -> the modules of ours that may be imported so
    "numerics: NumPy, SciPy, Polars, Arrow or ONNX takes 0.1 to 1 s to load, and most work needs none of it": {
        "noria.cli.draft",
        "noria.cli.predict_files",
        "noria.cli.rollout_forecast",
        "noria.data.anomalies",
        "noria.data.formats.formulas",
        "noria.data.judge_contract",
        "noria.data.judge_dropped_rows",
        "noria.data.judge_personal_data",
        "noria.data.judge_repeats",
        "noria.delivery.rollout_controller",
        "noria.evaluation.measure",
        "noria.models.columns",
        "noria.models.frameworks.graph_files",
        "noria.models.frameworks.graphs",
        "noria.models.judge_leakage",
        "noria.models.python_model",
        "noria.pipeline.run_filter",
        "noria.pipeline.search_study",
        "noria.predictions.compaction",
        "noria.predictions.log_query",
        "noria.predictions.tabular",
    },
    "processes: who starts none needs no psutil, no signals, no web server": {
        "noria.daemon",
        "noria.kernel.orphans",
        "noria.kernel.process_tree",
        "noria.pipeline.executors.local",
        "noria.pipeline.executors.pool",
    },
    "what many commands share stays light: ledger, settings, server and line are loaded by the command that asks for them": {
        "noria.cli.action",
        "noria.cli.crash",
        "noria.cli.experiments",
        "noria.config",
        "noria.data.refetch",
        "noria.engine.action_table",
        "noria.engine.assembly",
        "noria.engine.candidate_stages",
        "noria.serving.client",
        "noria.storage.ledger",
    },
}


def own(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The modules of the package that an import names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in sources())
    elif node.module in sources():
        yield from {name if (name := f"{node.module}.{alias.name}") in sources() else node.module for alias in node.names}


def inside() -> Iterator[tuple[str, set[str]]]:
    """Where imports of our own modules stand inside functions, and what they name."""
    for name, tree in sources().items():
        functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        nodes = {node for function in functions for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))}
        for node in nodes:
            if named := set(own(node)):
                yield f"{name}:{node.lineno}", named


def arrows() -> dict[str, dict[str, int]]:
    """Which module imports which, and on which line: wherever the import stands, for type checkers alone too."""
    found: dict[str, dict[str, int]] = {name: {} for name in sources()}
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for other in set(own(node)) - {name}:
                    found[name].setdefault(other, node.lineno)
    return found


def circles(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """The strongly connected components of more than one module: each is what reaches a module and is reached by it."""
    left = {name: set(others) for name, others in graph.items()}
    while done := {name for name, others in left.items() if not others}:  # they lead nowhere: they are in no circle
        left = {name: others - done for name, others in left.items() if name not in done}
    back = {name: {other for other in left if name in left[other]} for name in left}
    found: list[set[str]] = []
    for name in left:
        if not any(name in one for one in found) and len(both := reached(left, name) & reached(back, name)) > 1:
            found.append(both)
    return found


def reached(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    seen, ahead = {start}, [start]
    while ahead:
        fresh = set(graph[ahead.pop()]) - seen
        seen |= fresh
        ahead += fresh
    return seen


def test_circles_are_found() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["e"], "e": ["d"], "f": ["a"]}
    assert circles(graph) == [{"a", "b", "c"}, {"d", "e"}]


def test_no_files_import_each_other_in_a_circle() -> None:
    """Move what both need down, pass a function in, or merge two files that are one thing."""
    graph = arrows()
    assert sum(map(len, graph.values())) > 1000, "the imports are found"
    found = [[f"{a}:{graph[a][b]} -> {b}" for a in sorted(one) for b in sorted(set(graph[a]) & one)] for one in circles(graph)]
    assert found == []


def test_few_imports_stand_inside_functions_and_each_for_a_reason_of_the_table() -> None:
    found = dict(inside())
    allowed = set().union(*INSIDE.values())
    assert {place: named - allowed for place, named in found.items() if named - allowed} == {}
    assert allowed - set().union(*found.values()) == set(), "none imports these inside a function any more"
    assert len(found) <= MOST, sorted(found)
