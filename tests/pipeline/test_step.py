"""Steps: functions with what they ask for, commands with what they leave, results as deterministic bytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from noria.kernel.errors import DataError, StepError
from noria.kernel.names import digest_file
from noria.models import table_arguments
from noria.pipeline import function_step

MODULE = """
from __future__ import annotations
from pathlib import Path
import numpy as np, pandas as pd, polars as pl, pyarrow as pa

def plain(flights, factor=1): return flights.with_columns(pl.col("n") * factor)
def lazy(flights: pl.LazyFrame): return flights.filter(pl.col("n") > 1)
def pandas(flights: pd.DataFrame, weather: pd.DataFrame | None = None): return flights.assign(seen=weather is None)
def arrow(flights: pa.Table): return flights.slice(0, 1)
def columns(flights: dict): return {"total": sum(flights["n"])}
def path(flights: Path): return {"name": flights.name}
def number(): return np.float64(1.5)
def nothing(flights): return None
def strange(): return {"x": object()}
def chain(earlier): return earlier
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("steps")
    (folder / "steps_under_test.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture
def flights(tmp_path: Path) -> list[str]:
    pl.DataFrame({"n": [1, 2], "c": ["a", None]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"c": ["b"], "n": [2.5]}).write_csv(tmp_path / "b.csv")
    return [str(tmp_path / "a.parquet"), str(tmp_path / "b.csv")]


def call(tmp_path: Path, name: str, **arguments: Any) -> dict[str, Any]:
    job = {"call": f"steps_under_test:{name}", "cmd": None, "arguments": arguments, "outs": [], "folder": str(tmp_path)}
    return function_step.run(job)


def table(files: list[str]) -> dict[str, Any]:
    return {"kind": "table", "files": files}


def test_files_are_joined_in_order_with_columns_by_name(tmp_path: Path, flights: list[str]) -> None:
    facts = call(tmp_path, "plain", flights=table(flights), factor={"kind": "value", "value": 2})
    assert facts == {"format": "arrow", "rows": 3, "columns": ["n", "c"]}
    assert pl.read_ipc(tmp_path / "output").rows() == [(2.0, "a"), (4.0, None), (5.0, "b")]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("lazy", [(2.0, None), (2.5, "b")]),
        ("pandas", [(1.0, "a", True), (2.0, None, True), (2.5, "b", True)]),
        ("arrow", [(1.0, "a")]),
    ],
)
def test_a_function_gets_the_table_type_it_asks_for(tmp_path: Path, flights: list[str], name: str, rows: list[Any]) -> None:
    call(tmp_path, name, flights=table(flights))
    assert pl.read_ipc(tmp_path / "output").rows() == rows


def test_values_become_json(tmp_path: Path, flights: list[str]) -> None:
    assert call(tmp_path, "columns", flights=table(flights)) == {"format": "json"}
    assert json.loads((tmp_path / "output").read_text()) == {"total": 5.5}
    assert call(tmp_path, "number") == {"format": "json"}
    assert json.loads((tmp_path / "output").read_text()) == 1.5
    call(tmp_path, "path", flights=table(flights[:1]))
    assert json.loads((tmp_path / "output").read_text()) == {"name": "a.parquet"}


@pytest.mark.parametrize("form", ["arrow", "json"])
def test_a_result_is_the_next_steps_argument(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"earlier.{form}"
    value = pl.DataFrame({"a": [1, None]}) if form == "arrow" else {"a": [1, None]}
    table_arguments.write(value, path)
    call(tmp_path, "chain", earlier={"kind": "output", "path": str(path), "format": form})
    assert (tmp_path / "output").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "returned NoneType; a step returns a table (Polars, pandas, Arrow), a NumPy array, a model or JSON values"),
        ("strange", "returned a dict that is not JSON"),
        ("lazzy", "has no function 'lazzy'; did you mean 'lazy'?"),
        ("path", "argument flights has 2 files and the function asks for one path"),
    ],
)
def test_a_wrong_function_is_told_what_is_wrong(tmp_path: Path, flights: list[str], name: str, said: str) -> None:
    arguments = {} if name == "strange" else {"flights": table(flights)}
    with pytest.raises(StepError) as caught:
        call(tmp_path, name, **arguments)
    assert said in caught.value.message


def test_files_with_other_columns_are_named(tmp_path: Path, flights: list[str]) -> None:
    pl.DataFrame({"n": [1], "d": [2]}).write_parquet(tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet: lacks c and has d besides, compared with a\.parquet"):
        call(tmp_path, "plain", flights=table([*flights, str(tmp_path / "c.parquet")]))


def test_equal_tables_have_equal_bytes_however_they_came_about(tmp_path: Path) -> None:
    whole = pl.DataFrame({"n": range(1000), "c": [f"text of some length {i % 7}" for i in range(1000)]})
    pieces = pl.concat([whole.slice(i * 100, 100) for i in range(10)], rechunk=False)
    filtered = pl.concat([whole, whole]).with_row_index("i").filter(pl.col("i") >= 1000).drop("i")
    digests = set()
    for number, made in enumerate([whole, pieces, filtered]):
        table_arguments.write_arrow(made, tmp_path / f"{number}.arrow")
        digests.add(digest_file(tmp_path / f"{number}.arrow"))
    table_arguments.write_arrow(table_arguments.as_table(pd.DataFrame(whole.to_dict(as_series=False))), tmp_path / "pandas.arrow")  # type: ignore[arg-type]
    assert digests == {digest_file(tmp_path / "pandas.arrow")}


def test_a_pandas_index_that_has_names_becomes_columns() -> None:
    """Number 26: what groupby and set_index put into the index is not lost between steps."""
    frame = pd.DataFrame({"plan": ["a", "a", "b"], "cust": [1, 2, 3], "fee": [1.0, 2.0, 3.0]})
    one = table_arguments.as_table(frame.groupby("plan").agg({"fee": "mean"}))
    assert one is not None
    assert one.to_dict(as_series=False) == {"plan": ["a", "b"], "fee": [1.5, 3.0]}
    several = table_arguments.as_table(frame.groupby(["plan", "cust"]).agg({"fee": "max"}))
    assert several is not None
    assert several.columns == ["plan", "cust", "fee"]
    plain = table_arguments.as_table(frame[frame["fee"] > 1])
    assert plain is not None
    assert plain.columns == ["plan", "cust", "fee"]
    with pytest.raises(StepError, match="both called 'plan'"):
        table_arguments.as_table(frame.set_index("plan", drop=False))
