"""The house rules: no leftovers, no dead files, no function that scrolls. Each test names every place that breaks its rule."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import noria
from noria import config
from noria.kernel.task import Task

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
FUNCTION_LINES = 60
FILE_LINES = 600
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
BROAD = re.compile(r"\bexcept\b.*\b(Exception|BaseException)\b")
PRAGMA = re.compile(r"#\s*(?:noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|type:\s*ignore\[[^]]+\])(.*)$")
BLANKET = re.compile(r"#\s*(?:noqa(?!:)|type:\s*ignore(?!\[))")
# The words are put together here, so that this file does not break its own rule.
MACHINE = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "home/[a-z]", "/" + "Users/", r"[A-Z]:\\" + "Users"]))
HOSTS = re.compile(
    r"\b(" + "|".join(["py" + "pi", "npm" + "js", "python" + "hosted", "conda" + r"\.", "crates" + r"\.io"]) + r")\b", re.I
)
UNUSED = {  # imported by no other file of the package, and why
    "noria.config.schema",  # `python -m` writes schema.json with it, and docs/make.py a page: no command needs it
}
TASKS_NAMED = {  # who names a task instead of asking its definition, and why
    "noria.kernel.task": "the names themselves",
    "noria.models.frameworks.catboost": "translates a loss of CatBoost",
    "noria.models.frameworks.files": "translates an objective of LightGBM or XGBoost",
    "noria.models.frameworks.graph_files": "translates an operator of ONNX",
    "noria.models.frameworks.pickled": "translates a kind of scikit-learn's estimators",
    "noria.models.frameworks.statsmodels": "translates a class of statsmodels",
}
STARTED = {"__main__"}  # `python -m` runs these


@cache
def tracked() -> tuple[Path, ...]:
    """What Git would commit: tracked files, and new ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a clone: there is no list of files")
    return tuple(p for name in done.stdout.decode().split("\0") if name and (p := ROOT / name).is_file())


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    return {dotted(p): ast.parse(p.read_text(), str(p)) for p in sorted(SOURCE.rglob("*.py"))}


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lines(*folders: str) -> Iterator[tuple[str, str]]:
    """(place, line) of every Python line below the folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", line


def test_there_is_something_to_look_at() -> None:
    assert len(sources()) > 100
    assert ROOT / "README.md" in tracked()


def test_a_function_fits_on_a_screen() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [(name, node) for name, tree in sources().items() for node in ast.walk(tree) if isinstance(node, kinds)]
    lengths = {f"{name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1 for name, node in functions}
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}


def test_a_file_is_about_one_thing() -> None:
    lengths = {p.relative_to(ROOT): len(p.read_text().splitlines()) for p in SOURCE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > FILE_LINES} == {}


def test_a_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for name, tree in sources().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice == {}


def test_test_lines_keep_up_with_source_lines() -> None:
    count = {folder: sum(len(p.read_text().splitlines()) for p in (ROOT / folder).rglob("*.py")) for folder in ("src", "tests")}
    assert count["tests"] >= 0.8 * count["src"]


def test_nothing_was_left_for_later() -> None:
    assert [place for place, line in lines("src") if LEFTOVER.search(line)] == []


def test_records_are_structs() -> None:
    """A dataclass takes 3 to 5 ms to make, a Struct 0.1: of every command's start. None has had a reason to stay one."""
    assert [place for place, line in lines("src") if re.match(r"\s*(from|import) dataclasses\b", line)] == []


def test_helpers_live_beside_their_noun() -> None:
    forbidden = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert [name for name in sources() if forbidden & {part.strip("_") for part in name.split(".")}] == []


def test_who_catches_everything_says_why() -> None:
    assert [place for place, line in lines("src") if BROAD.search(line) and "#" not in line] == []


def test_a_rule_is_ignored_by_its_name_and_with_a_reason() -> None:
    assert [place for place, line in lines("src") if BLANKET.search(line)] == []
    found = [(place, match) for place, line in lines("src") if (match := PRAGMA.search(line))]
    assert found
    assert [place for place, match in found if not re.search(r"[a-z]{3}", match.group(1))] == []


def test_every_module_says_what_it_is() -> None:
    assert [name for name, tree in sources().items() if not ast.get_docstring(tree)] == []


@pytest.mark.parametrize("module", [noria, config], ids=lambda m: m.__name__)
def test_public_names_are_sorted_and_whole(module: ModuleType) -> None:
    listed = list(module.__all__)
    assert listed == sorted(listed)
    bound = {alias.asname or alias.name for alias in bindings(sources()[module.__name__])} | assigned(sources()[module.__name__])
    public = {name for name in bound if not name.startswith("_")} | ({"__version__"} & bound)
    assert set(listed) == public


def bindings(tree: ast.Module) -> list[ast.alias]:
    """What a module imports by name at its top."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    return [alias for node in imports for alias in node.names]


def assigned(tree: ast.Module) -> set[str]:
    """The names that a module binds itself at its top."""
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)]
    defined = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    return {t.id for t in targets} - {"__all__"} | {n.name for n in defined}


def test_no_file_is_dead() -> None:
    """A module is imported somewhere in the package, named in a text that starts it, or run by `python -m`."""
    used = {name for module, tree in sources().items() for name in mentioned(tree) if name != module}
    packages = {dotted(p) for p in SOURCE.rglob("__init__.py")}
    dead = {m for m in sources() if m not in used and m not in packages and m.rpartition(".")[2] not in STARTED}
    assert dead == UNUSED


def mentioned(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports, or that stand in its texts (``noria.pipeline.function_step:run``)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition(":")[0]


def test_no_file_knows_this_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # pictures and data
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for rule in (MACHINE, HOSTS) for m in rule.finditer(text)]
    assert found == []


def test_what_noria_writes_is_not_committed() -> None:
    made = {".noria", ".demo", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    assert [p for p in tracked() if made & set(p.relative_to(ROOT).parts)] == []


def test_files_that_start_first_are_there() -> None:
    """The table in `tests/conftest.py`: a file that was renamed would start late without a word."""
    tests = ROOT / "tests"
    table = next(
        node.value
        for node in ast.parse((tests / "conftest.py").read_text()).body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["SECONDS"]
    )
    assert [name for name in ast.literal_eval(table) if not (tests / name).is_file()] == []


def test_the_import_contract_knows_every_judge() -> None:
    """import-linter takes no pattern for a part of a name: a new judge is written down by hand."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (pure,) = (contract for contract in contracts if contract["name"].startswith("judges are pure"))
    judges = {name for name in sources() if name.rpartition(".")[2].startswith("judge_")}
    assert judges - set(pure["source_modules"]) == set()


def test_what_runs_on_logs_and_does_not_print() -> None:
    """Levels, fields and JSON lines (`kernel/logs.py`) are for all that a process says. Steps print: it is their log."""
    speaking = ("src/noria/cli/", "src/noria/pipeline/executors/child.py")
    assert [place for place, line in lines("src") if "file=sys.stderr" in line and not place.startswith(speaking)] == []


def test_what_a_task_is_stands_in_its_definition() -> None:
    """Who asks which task it is has to be edited for each new one: they ask ``task.definition`` what they want to know."""
    members = {task.name for task in Task}
    naming = {
        name
        for name, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in members and ast.unparse(node.value) in ("Task", "cls", "task.Task")
    }
    assert naming == TASKS_NAMED.keys()
    words = {str(task) for task in Task}
    compared = [
        f"{name}:{node.lineno}"
        for name, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in words
    ]
    assert compared == []


def test_nobody_asks_whether_a_word_stands_in_an_error() -> None:
    """Outcomes are classes and enums. Another library's words may be asked where it has no class for them: the line says so."""
    asked = re.compile(r"\bin (str\((error|e|cause)\)|\w+\.message\b)|\.message\.(startswith|endswith|find)\(")
    assert [place for place, line in lines("src") if asked.search(line) and "  # " not in line] == []
