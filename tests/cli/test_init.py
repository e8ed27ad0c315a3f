"""What `noria init` writes works by itself: its tests pass, its model trains, converts, and answers odd rows."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import yaml
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from threadpoolctl import threadpool_limits

from noria.cli import draft as drafting
from noria.cli import execute
from noria.kernel.errors import DataError, UsageError
from noria.kernel.task import Task
from noria.models.split import split


@pytest.fixture(autouse=True)
def _git_knows_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("nobody")
    monkeypatch.setenv("HOME", str(empty))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(empty.parent))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of a booster spin for each other on a busy machine: one table took ten minutes."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def own_tests(home: Path) -> subprocess.CompletedProcess[str]:
    """The generated project's own tests, in a process of their own."""
    command = [sys.executable, "-m", "unittest", "discover", "-q", "-s", "tests"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads of a booster stall each other where other tests run
    return subprocess.run(command, cwd=home, env=alone, capture_output=True, text=True, timeout=500, check=False)


def load_train(home: Path):
    spec = importlib.util.spec_from_file_location(f"made_{abs(hash(str(home)))}", home / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.train


def customers(rows: int, seed: int = 7) -> pl.DataFrame:
    """A table with texts, numbers, nulls, a key, a time and some useless columns; plan and months decide churn and spend."""
    chance = random.Random(seed)
    plans = ["basic", "plus", "pro", "déjà vu"]
    made = []
    for i in range(rows):
        plan, months = chance.choice(plans), chance.randint(0, 60)
        score = 2.0 * plans.index(plan) - months / 12 + chance.gauss(0, 1)
        made.append(
            {
                "customer_id": f"c{i:05d}",
                "joined at": f"2024-01-01T{i % 24:02d}:00:00",
                "plan": None if chance.random() < 0.05 else plan,
                "months": months,
                "calls per day": None if chance.random() < 0.1 else round(chance.expovariate(0.5), 2),
                "note": f"free text {i * 17}",
                "country": "FR",
                "churned": "yes" if score > 0.5 else "no",
                "tier": ["low", "mid", "high"][min(2, max(0, int(score + 3) // 3))],
                "spend": round(40 + 9.5 * score + chance.gauss(0, 2), 2),
            }
        )
    return pl.DataFrame(made).with_columns(pl.col("joined at").str.to_datetime())


def initialise(folder: Path, table: pl.DataFrame, label: str) -> tuple[Path, int]:
    folder.mkdir()
    table.write_parquet(folder / "customers.parquet")
    return folder, execute(["-C", str(folder), "init", "--data", "customers.parquet", "--label", label])


def test_the_example_is_whole_and_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["-C", str(tmp_path), "init", "hello", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    home = tmp_path / "hello"
    assert told["project"] == "hello"
    assert all((home / name).is_file() for name in told["files"])
    assert own_tests(home).returncode == 0
    status = subprocess.run(["git", "-C", str(home), "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert status.stdout == ""
    tracked = subprocess.run(["git", "-C", str(home), "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(tracked) == sorted(name for name in told["files"] if not name.startswith("data/"))


def test_the_example_has_something_to_learn(tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    execute(["-C", str(tmp_path), "init", "hello"])
    home = tmp_path / "hello"
    subprocess.run([sys.executable, "new_data.py"], cwd=home, check=True, capture_output=True)
    first, second = (pl.read_csv(home / "data" / f"readings-0{i}.csv") for i in (1, 2))
    assert first.height == second.height == 2000
    assert set(first["reading_id"]).isdisjoint(second["reading_id"])
    config = yaml.safe_load((home / "noria.yaml").read_text())
    inputs = config["model"]["inputs"]
    model = load_train(home)(first.select(inputs), first["fails"], **yaml.safe_load((home / "params.yaml").read_text())["train"])
    assert roc_auc_score(second["fails"], model.predict_proba(second.select(inputs))[:, 1]) > 0.70  # the gate asks for 0.65


def test_each_month_of_the_example_meets_its_contract(tmp_path: Path) -> None:
    """Month 4 held one pump that was never serviced, and was quarantined: the example broke by itself."""
    execute(["-C", str(tmp_path), "init", "hello"])
    home = tmp_path / "hello"
    spec = importlib.util.spec_from_file_location("new_data_of_the_example", home / "new_data.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    columns = yaml.safe_load((home / "contracts" / "readings.yaml").read_text())["columns"]
    table = pl.concat(pl.read_csv(made.write(home / "data", month)) for month in range(1, 37))
    for name, promise in columns.items():
        low, high = promise.get("range", (None, None))
        if low is not None:
            assert low <= table[name].min() <= table[name].max() <= high, name


def test_a_worse_mistake_breaks_the_examples_own_tests(tmp_path: Path) -> None:
    execute(["-C", str(tmp_path), "init", "hello"])
    model = tmp_path / "hello" / "model.py"
    model.write_text(model.read_text().replace("label.to_numpy()", "1 - label.to_numpy()"))
    assert own_tests(tmp_path / "hello").returncode == 1


def test_the_example_is_the_same_everywhere(tmp_path: Path) -> None:
    for name in ("a", "b"):
        execute(["-C", str(tmp_path), "init", name])
    assert (tmp_path / "a/data/readings-01.csv").read_bytes() == (tmp_path / "b/data/readings-01.csv").read_bytes()


@pytest.mark.parametrize("rows", [400, 1500], ids=["linear", "trees"])
@pytest.mark.parametrize(("label", "task"), [("churned", "binary"), ("tier", "multiclass"), ("spend", "regression")])
def test_a_project_for_an_own_table(tmp_path: Path, rows: int, label: str, task: str) -> None:
    table = customers(rows)
    home, code = initialise(tmp_path / "shop", table, label)
    assert code == 0
    config = yaml.safe_load((home / "noria.yaml").read_text())
    model = config["model"]
    assert (model["task"], model["key"], model["event_time"], model["label"]) == (task, "customer_id", "joined at", label)
    assert {"plan", "months", "calls per day"} <= set(model["inputs"])
    assert not {"note", "country", "customer_id", "joined at", label} & set(model["inputs"])
    tested = own_tests(home)
    assert tested.returncode == 0, tested.stderr

    inputs = ["plan", "months", "calls per day"]
    source = (home / "model.py").read_text()
    narrow = tmp_path / "narrow"
    home2, code = initialise(narrow, table.select([*inputs, "customer_id", label]), label)
    assert code == 0
    assert ("HistGradientBoosting" in source) == (rows >= 1000)
    fitted = load_train(home2)(table.select(inputs), table[label], **yaml.safe_load((home2 / "params.yaml").read_text())["train"])
    assert_learned_and_converts(fitted, customers(300, seed=8), inputs, label)


def assert_learned_and_converts(model, rows: pl.DataFrame, inputs: list[str], label: str) -> None:
    """Better than guessing on new rows; and ONNX, fed with "" and NaN for nulls, says the same."""
    frame, truth = rows.select(inputs), rows[label]
    predicted = model.predict(frame)
    if label == "spend":
        assert np.abs(predicted - truth.to_numpy()).mean() < 0.6 * np.abs(truth.to_numpy() - truth.mean()).mean()
    else:
        assert (predicted == truth.to_numpy()).mean() > truth.value_counts()["count"].max() / truth.len() + 0.05
    types = [(n, StringTensorType([None, 1]) if frame[n].dtype == pl.String else FloatTensorType([None, 1])) for n in inputs]
    final = model.steps[-1][1]
    options = {id(final): {"zipmap": False}} if hasattr(final, "classes_") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # skl2onnx hands numpy truth values to protobuf as numbers
        converted = to_onnx(model, initial_types=types, options=options)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    fed = {}
    for name, given in zip(inputs, session.get_inputs(), strict=True):  # skl2onnx replaces blanks in names
        column = frame[name]
        text = column.dtype == pl.String
        values = (
            column.fill_null("").to_numpy().astype(object) if text else column.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        )
        fed[given.name] = values.reshape(-1, 1)
    outputs = session.run(None, fed)
    if label == "spend":
        assert np.allclose(outputs[0].ravel(), predicted, rtol=1e-3, atol=1e-3)
    else:
        assert np.mean(np.abs(outputs[1] - model.predict_proba(frame)).max(axis=1) < 1e-3) > 0.99


def test_truth_values_and_nulls_among_them(tmp_path: Path) -> None:
    chance = random.Random(1)
    table = pl.DataFrame(
        {
            "active": [chance.choice([True, False, None]) for _ in range(300)],
            "age": [chance.randint(18, 80) for _ in range(300)],
            "left": [chance.random() < 0.4 for _ in range(300)],
        }
    )
    home, code = initialise(tmp_path / "flags", table, "left")
    assert code == 0
    tested = own_tests(home)
    assert tested.returncode == 0, tested.stderr


def test_hostile_names_stay_data(tmp_path: Path) -> None:
    """Column names that would be YAML, Python or Jinja if they were not quoted."""
    table = pl.DataFrame(
        {
            'a: b # "c"': [float(i % 7) for i in range(200)],
            "it's {{ 7 * 7 }}\\n": [i % 13 for i in range(200)],
            "- [x]": [["u", "v", "w'\""][i % 3] for i in range(200)],
            "yes": [i % 2 for i in range(200)],
        }
    )
    home, code = initialise(tmp_path / "odd", table, "yes")
    assert code == 0
    config = yaml.safe_load((home / "noria.yaml").read_text())
    assert config["model"]["inputs"] == table.columns[:3]
    assert config["model"]["label"] == "yes"
    contract = yaml.safe_load((home / "contracts" / "customers.yaml").read_text())
    assert list(contract["columns"]) == table.columns
    tested = own_tests(home)
    assert tested.returncode == 0, tested.stderr


def test_the_contract_is_inferred_with_slack(tmp_path: Path) -> None:
    home, _ = initialise(tmp_path / "shop", customers(1500), "churned")
    contract = yaml.safe_load((home / "contracts" / "customers.yaml").read_text())
    columns = contract["columns"]
    assert columns["months"] == {
        "type": "int",
        "nulls": "never",
        "range": [0, 120],
    }  # 0 to 60, its span more above, never negative
    assert columns["plan"]["type"] == "string"
    assert 5 < int(columns["plan"]["nulls"].removeprefix("<= ").removesuffix("%")) < 30
    assert columns["churned"]["values"] == ["no", "yes"]
    assert columns["joined at"]["type"] == "datetime"
    assert contract["unique"] == ["customer_id"]


def test_what_numbers_the_rows_may_go_on(tmp_path: Path) -> None:
    """The customers of the next file have later numbers: a range of those that were seen would refuse it whole."""
    initialise(tmp_path / "shop", customers(300).with_columns(pl.int_range(1, 301).alias("customer_id")), "churned")
    columns = yaml.safe_load((tmp_path / "shop/contracts/customers.yaml").read_text())["columns"]
    assert columns["customer_id"] == {"type": "int", "nulls": "never"}


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([True, False] * 50, Task.BINARY),
        ([0.0, 1.0] * 50, Task.BINARY),
        (["a", "b"] * 50, Task.BINARY),
        ([0.5, 1.5] * 50, Task.REGRESSION),
        ([1, 2, 3, 4] * 25, Task.MULTICLASS),
        (list(range(20)) * 5, Task.MULTICLASS),
        (list(range(21)) * 5, Task.REGRESSION),
        ([i / 7 for i in range(100)], Task.REGRESSION),
    ],
)
def test_task(values: list[object], task: Task) -> None:
    assert drafting.infer_task(pl.Series("y", values), "file")[0] is task


def test_labels_that_teach_nothing() -> None:
    with pytest.raises(DataError, match="only one value"):
        drafting.infer_task(pl.Series("y", [1] * 100), "file")
    with pytest.raises(DataError, match="100 different values"):
        drafting.infer_task(pl.Series("y", [f"text {i}" for i in range(100)]), "file")


def test_a_missing_label_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        drafting.draft(customers(100), tmp_path / "x.csv", "x.csv", "chured", "x")
    assert "churned" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says", "code"),
    [
        ("empty.csv", "", "empty", 1),
        ("short.csv", "a,b\n1,2\n", "too few", 1),
        ("torn.parquet", "PAR1 not really", "parquet", 1),
        ("absent.csv", None, "there is no file", 2),
    ],
)
def test_files_that_hold_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, says: str, code: int
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert execute(["-C", str(tmp_path), "init", "--data", name, "--label", "b"]) == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "noria.yaml").exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.py").write_text("mine = 1\n")
    assert execute(["-C", str(tmp_path), "init"]) == 1
    assert "model.py" in capsys.readouterr().err
    assert (tmp_path / "model.py").read_text() == "mine = 1\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.py"]


def test_an_existing_gitignore_keeps_its_lines(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("secret.txt\n__pycache__/\n")
    assert execute(["-C", str(tmp_path), "init"]) == 0
    lines = (tmp_path / ".gitignore").read_text().splitlines()
    assert lines[:2] == ["secret.txt", "__pycache__/"]
    assert lines.count("__pycache__/") == 1
    assert {"/.noria/", "/data/"} <= set(lines)


def test_inside_a_repository_nothing_is_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert execute(["-C", str(tmp_path), "init", "sub"]) == 0
    assert "commit these files" in capsys.readouterr().out
    assert not (tmp_path / "sub" / ".git").exists()


def test_a_file_from_elsewhere_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "export.csv"
    customers(200).write_csv(source)
    assert execute(["-C", str(tmp_path), "init", "shop", "--data", "export.csv", "--label", "churned"]) == 0
    assert (tmp_path / "shop/data/export.csv").read_bytes() == source.read_bytes()
    assert yaml.safe_load((tmp_path / "shop/noria.yaml").read_text())["data"]["export"]["source"] == "data/export.csv"


def test_equal_rows_stay_on_one_side_of_the_drafted_split(tmp_path: Path) -> None:
    """Number 29: a file that repeats rows puts none of them on both sides; a row stays where it was when others come."""
    table = customers(400).select("months", "plan", pl.col("calls per day"), "churned")
    home, code = initialise(tmp_path / "nameless", table, "churned")
    assert code == 0
    model = yaml.safe_load((home / "noria.yaml").read_text())["model"]
    assert model.get("key") is None
    facts = {
        "key": None,
        "label": "churned",
        "inputs": model["inputs"],
        "task": "binary",
        "project": "p",
        "holdout": model["holdout"],
    }
    first = split(table, facts)
    again = split(pl.concat([table, customers(400, seed=8).select(table.columns), table.head(300)]), facts)
    held, trained = (set(side.rows()) for side in (again.holdout, again.train))
    assert not held & trained
    assert set(first.holdout.rows()) <= held
    assert set(first.train.rows()) <= trained


@pytest.mark.parametrize(
    ("at", "holdout"),
    [
        ([datetime(2024, 1, 1) + timedelta(days=i) for i in range(1000)], "last: "),
        ([date(2024, 1, 1) + timedelta(days=i) for i in range(1000)], "last: "),
        ([datetime(2024, 1, 1) + timedelta(seconds=i) for i in range(1000)], "fraction: "),  # an hour holds all
        ([datetime(2024, 1, 1)] * 999 + [datetime(2025, 1, 1)], "fraction: "),  # the newest part is one row
    ],
)
def test_a_column_of_times_splits_the_draft_by_time(at: list[Any], holdout: str) -> None:
    """Number 29: the newest rows are held out, where they are enough, not too many, and of every class."""
    table = pl.DataFrame({"at": at, "x": range(1000), "y": ["a", "b"] * 500})
    made = drafting.draft(table, Path("t.parquet"), "t.parquet", "y", "t")
    assert made.event_time == "at"
    assert made.holdout[0].startswith(holdout)
    assert "at" not in [c.name for c in made.inputs]


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ({"population": [i * 37 % 1009 for i in range(100)]}, None),  # unique by chance: an amount
        ({"CustomerID": [i * 37 % 1009 for i in range(100)]}, "CustomerID"),
        ({"x": [0.5] * 100, "order no": list(range(100))}, "order no"),
        ({"n": list(range(5, 105))}, "n"),
        ({"name": [f"p{i}" for i in range(100)]}, "name"),
        ({"id": [1] * 100}, None),
        ({"id": [None, *range(99)]}, None),
    ],
)
def test_key(columns: dict[str, list[object]], key: str | None) -> None:
    table = pl.DataFrame(columns | {"more": [i % 7 for i in range(100)], "y": [i % 2 for i in range(100)]})
    assert drafting.draft(table, Path("t.csv"), "t.csv", "y", "t").key == key


def test_column_names_of_any_characters_make_files_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 58: a header with a line break made `noria init` write YAML that nothing could read."""
    chance = random.Random(1)
    names = [
        "line\nbreak",
        'size 3.5" disk',
        "back\\slash",
        "\u2028sep",
        "\x7f",
        "nul\x00",
        "a: b #c",
        "- x",
        "{y}",
        "😀",
        "te\nxt",
    ]
    made: dict[str, list[object]] = {name: [chance.uniform(0, 5) for _ in range(120)] for name in names}
    made["te\nxt"] = [chance.choice(['u"1', "v\\2", "w\n3"]) for _ in range(120)]
    made['y: "l"\n#'] = ["ye\ns" if i % 2 else "n\x85o" for i in range(120)]
    made["line\nbreak"] = [1.0 + (i % 2) for i in range(120)]
    pl.DataFrame(made).write_parquet(tmp_path / "odd.parquet")
    home = tmp_path / "home"
    assert execute(["init", str(home), "--data", str(tmp_path / "odd.parquet"), "--label", 'y: "l"\n#']) == 0
    written = yaml.safe_load((home / "noria.yaml").read_text())
    assert written["model"]["inputs"] == names
    assert written["model"]["label"] == 'y: "l"\n#'
    contract = yaml.safe_load((home / "contracts" / "odd.yaml").read_text())
    assert list(contract["columns"]) == [*names, 'y: "l"\n#']
    assert contract["columns"]['y: "l"\n#']["values"] == ["n\x85o", "ye\ns"]
    assert own_tests(home).returncode == 0


@pytest.mark.parametrize("words", [["init"], ["status"], ["run"], ["check"], ["doctor"]])
def test_a_folder_whose_name_is_not_utf8_is_refused_in_words(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 59: what is kept names its folder in text; the way out is said."""
    home = tmp_path / os.fsdecode(b"caf\xe9")
    home.mkdir()
    if words != ["init"]:
        (home / "noria.yaml").write_text("project: p\n")
    assert execute(["-C", str(home), *words]) == 2
    said = capsys.readouterr().err
    assert "is not UTF-8" in said
    assert "caf\\xe9" in said
    assert not (home / ".noria").exists()
