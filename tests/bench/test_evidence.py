"""The tables of docs/statistics.md: made of simulated rollouts, put between the page's marks and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import evidence


def test_the_tables_stand_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "statistics.md"
    page.write_text(f"# Before\n\n{evidence.BEGIN}\nold\n{evidence.END}\n\n## After\n")
    evidence.renew(page, "| new |")
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{evidence.BEGIN}\nMade by `make tables`")
    assert text.endswith(f"| new |\n{evidence.END}\n\n## After\n")
    assert "old" not in text
    with pytest.raises(ValueError, match="marks"):
        evidence.renew(Path(__file__), "| new |")


def test_the_page_of_the_docs_has_the_marks() -> None:
    assert evidence.BEGIN in evidence.PAGE.read_text()


def test_rows_say_what_was_found() -> None:
    rows = [line for line in evidence.beside(2).splitlines() if line.startswith("| as good |")]
    assert [row.split("|")[2].strip() for row in rows] == [
        "noria",
        "fixed size",
        "fixed size, peeked at",
        "Argo Rollouts",
        "Flagger",
    ]
    assert "| 0.02 | " in evidence.labels(2)
