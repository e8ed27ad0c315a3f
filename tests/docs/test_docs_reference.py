"""The pages that are made from the code equal it, and the tables that people rely on name everything there is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from noria.cli import commands
from noria.cli.demo import story
from noria.kernel.error_table import row_of
from noria.kernel.errors import NoriaError
from noria.predictions.writer import Feedback, Prediction
from noria.storage.connection import Database

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def make() -> ModuleType:
    """docs/make.py, imported from where it lies."""
    spec = importlib.util.spec_from_file_location("docs_make", DOCS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = make()


@pytest.mark.parametrize("page", ["project-file.md", "commands.md", "errors.md", "control-api.md"])
def test_a_generated_page_equals_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text() == MAKE.pages()[page], "run `make docs`"


@pytest.mark.parametrize("name", commands())
def test_a_command_has_its_heading_example_keys_and_exit_codes(name: str) -> None:
    text = (DOCS / "commands.md").read_text()
    part = text.partition(f"\n## noria {name}\n")[2].partition("\n## noria ")[0]
    assert "Example:" in part
    assert re.search(rf"noria {name}\b", part.partition("Example:")[2])
    assert "JSON" in part
    assert "Exit codes: 0" in part


def rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables by the word in their first cell."""
    found = [line.strip("|").split("|") for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [c.strip() for c in cells[1:]] for cells in found}


def below(kind: type[NoriaError]) -> list[type[NoriaError]]:
    return [kind, *(k for child in kind.__subclasses__() for k in below(child))]


TREE = [kind for kind in below(NoriaError) if kind.__module__ == "noria.kernel.errors"]


@pytest.mark.parametrize("kind", TREE, ids=lambda k: k.__name__)
def test_an_error_has_its_row_with_the_codes_it_really_gives(kind: type[NoriaError]) -> None:
    means, exit_code, http, to_do = rows("errors.md")[kind.__name__]
    assert means
    assert to_do
    assert exit_code == str(row_of(kind).exit_code)
    assert http == str(row_of(kind).status)


def test_the_tree_is_drawn_whole() -> None:
    drawing = (ROOT / "src" / "noria" / "kernel" / "errors.py").read_text().partition('"""')[2].partition('"""')[0]
    assert [k.__name__ for k in TREE if k.__name__ not in drawing] == []


def test_the_formats_name_every_table_of_the_ledger(tmp_path: Path) -> None:
    database = Database(tmp_path / "ledger.db")
    database.migrate()
    tables = [row[0] for row in database.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    database.close()
    page = (DOCS / "formats.md").read_text()
    assert tables
    assert [name for name in tables if f"`{name}`" not in page] == []


@pytest.mark.parametrize("record", [Prediction, Feedback])
def test_the_formats_name_every_field_of_the_log(record: type) -> None:
    page = (DOCS / "formats.md").read_text()
    assert [name for name in record.__struct_fields__ if f"`{name}`" not in page] == []


def test_the_formats_name_every_key_of_the_story() -> None:
    """The keys as they stand in the code that writes them."""
    code = Path(story.__file__).read_text().partition("def facts(")[2]
    keys = re.findall(r'^ {8}"(\w+)":', code, re.M)
    page = (DOCS / "formats.md").read_text()
    assert "turns" in keys
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_the_statistics_name_tests_that_exist() -> None:
    named = re.findall(r"`(test_\w+)`", (DOCS / "statistics.md").read_text())
    code = "".join(p.read_text() for p in (ROOT / "tests").glob("*/test_*.py"))
    assert named
    assert [name for name in named if f"def {name}(" not in code] == []


def test_the_glossary_has_every_noun_of_the_domain() -> None:
    """Each noun that a room keeps records of."""
    records = "access|contract|evaluation|event|expression|golden|profile|release|replay|rollout|run|signature|table|trigger|turn"
    nouns = {*records.split("|"), "verdict", "workers"}
    words = {w.lower() for w in re.findall(r"^\| \*\*(.+?)\*\* \|", (DOCS / "glossary.md").read_text(), re.M)}
    assert nouns - words == set()


def test_links_of_the_contributing_page_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readmes_two_commands_are_targets() -> None:
    shown = re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.M)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert shown == ["demo", "test"]
    assert set(shown) <= set(targets)


def test_the_console_is_shown_by_a_small_picture() -> None:
    shown = re.findall(r"^!\[.{40,}\]\((docs/console\.\w+)\)$", (ROOT / "README.md").read_text(), re.M)
    assert [(ROOT / path).stat().st_size < 150_000 for path in shown] == [True]


def test_every_target_of_the_makefile_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [line for line in re.findall(r"^\w+:.*$", makefile, re.M) if "##" not in line] == []
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^(\w+):", makefile, re.M))


def test_the_state_folder_is_described_whole() -> None:
    """What the code puts into the state folder by name stands in the architecture page."""
    page = (DOCS / "architecture.md").read_text()
    code = "".join(p.read_text() for p in (ROOT / "src" / "noria").rglob("*.py"))
    names = set(re.findall(r'\bstate\)? / "([\w.]+)"', code))
    assert {"work", "log"} <= names
    assert [name for name in names if not re.search(rf"^{re.escape(name)}\b", page, re.M)] == []
