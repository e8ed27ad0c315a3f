"""Docs cannot lag behind: what is generated equals its source, what is linked is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from noria.cli import commands
from noria.config.schema import reference
from noria.kernel import errors
from noria.pipeline import environment

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def test_the_project_files_page_is_the_table_of_keys() -> None:
    assert (ROOT / "docs" / "project-file.md").read_text() == reference(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_every_command_and_the_two_that_set_up() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in commands() if name not in text] == []
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{name}:", makefile, re.M) for name in ("demo", "test", "setup"))


def test_every_command_and_every_error_has_its_place() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in commands() if f"## noria {name}\n" not in page] == []
    table = (ROOT / "docs" / "errors.md").read_text()
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.NoriaError)]
    assert [name for name in kinds if f"| `{name}` |" not in table] == []


def test_nobody_is_told_to_install_somebody_elses_package() -> None:
    """Number 36: on the public index `noria` is another project's; ours has another name."""
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert facts["name"] == environment.DISTRIBUTION != "noria"
    assert facts["scripts"] == {"noria": "noria.cli:main"}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    told = re.compile(r"pip install[^`\n]*[ '\"]noria(\[|\b(?!-))|noria\[[a-z]")
    assert [f"{page.name}: {found[0]}" for page in pages if (found := told.search(page.read_text()))] == []
