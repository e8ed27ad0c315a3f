"""Names of columns that no table can be asked for are refused at the door, in words."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from noria.data.formats import read_table
from noria.kernel.errors import DataError


@pytest.mark.parametrize("name", ["*", "^a.*$", ""])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_name_that_is_a_pattern_is_refused(tmp_path: Path, name: str, suffix: str) -> None:
    """Number 58: any column name that a table can have is served, or refused at check; these ended in a trace."""
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text(f"{name},ab\n1,2\n")
        if not name:
            assert "" not in read_table(path).columns  # it is called by its place
            return
    else:
        pl.DataFrame({name: [1.0], "ab": [2.0]}).write_parquet(path)
    with pytest.raises(DataError, match="column"):
        read_table(path)


@pytest.mark.parametrize("name", ["**", "^a", "a$", "*a", "a b", 'q"', "\\", "nul\x00", "\n", "é", "$"])
def test_any_other_name_is_kept(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({name: [1.0], "ab": [2.0]}).write_parquet(path)
    assert read_table(path).columns == [name, "ab"]
