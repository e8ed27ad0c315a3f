"""Each mistake in noria.yaml gives one error: its place, what is wrong, and the nearest right word."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from noria import config
from noria.kernel.errors import ConfigError

MODEL = """
def train(features, label, *, rate=0.1):
    return None

def build(inputs):
    return inputs

def table(readings, weather=None, limit=3):
    return readings

def loop(second):
    return second

def needs(readings, treshold):
    return readings

def positional(readings, /):
    return readings
"""
GOOD = """\
project: pumps
data:
  readings: data/*.csv
model:
  inputs: [age]
  label: fails
  train: "model:train"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "noria.yaml").write_text(GOOD)
    return tmp_path


def refuse(home: Path, text: str, environ: dict[str, str] | None = None) -> ConfigError:
    (home / "noria.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(home, environ=environ or {})
    return caught.value


@pytest.mark.parametrize(
    ("old", "new", "where", "message", "hint"),
    [
        ("project: pumps", "projekt: pumps", "1:1", "unknown key 'projekt'", "'project'"),
        ("project: pumps\n", "", "1:1", "'project' is missing", ""),
        ("project: pumps", "project: Pumps 2", "1:10", "not a name", "small letter"),
        ("data:", "goal: 7\ndata:", "2:7", "expected text, found the number 7", ""),
        ("label: fails", "label: fails\n  label: other", "7:3", "'label' is given twice; the first is at noria.yaml:6:3", ""),
        ("[age]", "age", "5:11", "expected a list of text, found the text 'age'", ""),
        ("[age]", "[age, 3]", "5:17", "expected text, found the number 3", ""),
        ("[age]", "[age, age]", "5:17", "listed twice", ""),
        ("[age]", "[age, fails]", "5:17", "is the label", ""),
        ("[age]", "[]", "5:11", "at least one input", ""),
        ("[age]", "[age, w]\n  weight: w", "5:17", "is the column of weight, which is only for training", ""),
        (
            "label: fails",
            "label: fails\n  weight: w",
            "7:11",
            "model:train takes no 'sample_weight' (model.py:2)",
            "sample_weight",
        ),
        ("label: fails", "label: fails\n  also: [regoins]", "7:10", "there is no step or dataset 'regoins'", ""),
        ("label: fails", "label: fails\n  decision: {threshold: 1.5}", "7:25", "expected a share between 0% and 100%", ""),
        ("label: fails", "label: fails\n  decision: {}", "7:13", "either a threshold or a cost", "false_negative: 40"),
        ("label: fails", "label: fails\n  decision: {cost: {false_positive: 1}}", "7:20", "'false_negative' is missing", ""),
        (
            "label: fails",
            "label: fails\n  decision: {threshold: 0.3, cost: {false_positive: 1, false_negative: 2}}",
            "7:13",
            "either a threshold or a cost",
            "",
        ),
        (
            "label: fails",
            "label: fails\n  task: regression\n  decision: {cost: {false_positive: 1, false_negative: 2}}",
            "8:13",
            "a cost is for two classes, and the task is regression",
            "Leave out decision",
        ),
        (
            "label: fails",
            "label: fails\n  task: regression\n  decision: {threshold: 0.3}",
            "8:13",
            "a threshold is for two classes, and the task is regression",
            "Leave out decision",
        ),
        ("model:train", "model:trian", "7:10", "no function 'trian' in model.py", "'train'"),
        ("model:train", "modle:train", "7:10", "no module 'modle'", "'model'"),
        ("model:train", "model.train", "7:10", "a function as", ""),
        ("data/*.csv", "postgresql+psycopg://h/db", "3:13", "postgresql+psycopg:// is a database", "sql: {url"),
        ("data/*.csv", "{source: a.csv, sql: {url: x, query: y}}", "3:13", "give source or sql, not both", ""),
        ("data/*.csv", "{settle: 2s}", "3:13", "'source' is missing", "sql: {url"),
        ("data/*.csv", "{sql: {url: x, query: y}, format: files}", "3:47", "the result of a query is a table", ""),
        ("data/*.csv", "{source: a.csv, options: {key: k}}", "3:38", "options are for addresses", ""),
        ("data/*.csv", "{source: a.csv, format: tables}", "3:37", "expected auto or files", ""),
        ("data/*.csv", "log:prodution", "3:13", "no environment 'prodution'", "'production'"),
        ("data/*.csv", "{source: a.csv, contract: contracts/a.yaml}", "3:39", "there is no file contracts/a.yaml", ""),
        ("data/*.csv", "{source: a.csv, contract: ../a.yaml}", "3:39", "outside the project", ""),
        ("data/*.csv", "{source: a.csv, settle: 2}", "3:37", "expected a duration like 50ms, 10m or 7d, found the number 2", ""),
        ("data/*.csv", "a.csv\n  more: b.csv", "6:3", "'rows' is missing", "readings, more"),
        ("label: fails", "label: fails\n  rows: reading", "7:9", "no step or dataset 'reading'", "'readings'"),
        ("label: fails", "label: fails\n  task: binry", "7:9", "expected binary, multiclass or regression", "'binary'"),
        ("label: fails", "label: fails\n  holdout: {last: 7d}", "7:19", "event_time", ""),
        ("label: fails", "label: fails\n  holdout: {fraction: 100%}", "7:23", "between 0% and 100%", ""),
        ("label: fails", "label: fails\n  memory: 4 gigs", "7:11", "expected a size like 512MB", ""),
        ("data:", "params: parms.yaml\ndata:", "2:9", "there is no file parms.yaml", ""),
        ("data:", "gates: [roc_acu >= 0.5]\ndata:", "2:9", "no metric 'roc_acu'", "'roc_auc'"),
        ("data:", "gates:\n  - rows >= 5\n  - rmse <= 3\ndata:", "4:5", "rmse is not a metric of a binary model", ""),
        ("data:", "steps: {t: model:tabel}\ndata:", "2:12", "no function 'tabel'", "'table'"),
        ("data:", "steps: {t: model:needs}\ndata:", "2:12", "'treshold' (model.py:14)", ""),
        ("data:", "steps: {t: model:positional}\ndata:", "2:12", "by position only", ""),
        ("data:", "steps: {second: model:loop}\ndata:", "2:17", "form a cycle: second takes second", ""),
        ("data:", "steps: {readings: model:table}\ndata:", "2:19", "already a dataset", ""),
        ("data:", "steps: {t: {timeout: 1m}}\ndata:", "2:12", "needs either call or cmd", ""),
        ("data:", "steps: {t: {cmd: x, deps: [readinsg]}}\ndata:", "2:28", "no dataset, step or file 'readinsg'", "'readings'"),
        ("data:", "steps: {t: {cmd: x, outs: [../x.csv]}}\ndata:", "2:28", "outside", ""),
        ("data:", "steps: {t: {call: model:table, deps: [readings]}}\ndata:", "2:38", "deps is for commands", ""),
        ("data:", "environments: {production: {after: staging}}\ndata:", "2:36", "no environment 'staging'", ""),
        ("data:", "environments: {live: {after: test}, test: {}}\ndata:", "2:30", "must be listed above it", ""),
        ("data:", "environments: {live: {rollout: {steps: [50%, 10%, 100%]}}}\ndata:", "2:46", "larger than the one before", ""),
        ("data:", "environments: {live: {rollout: {steps: [10%, 50%]}}}\ndata:", "2:40", "last step must be 100%", ""),
        ("data:", "environments: {live: {rollout: slow}}\ndata:", "2:32", "expected `direct` or a mapping", ""),
        ("data:", "environments: {live: {rollout: {steps: [100%], guard: {error: 1%}}}}\ndata:", "2:56", "'error'", "'errors'"),
        ("data:", "serving: {workers: 0}\ndata:", "2:20", "expected a number of processes from 1 to 64", ""),
        ("data:", "serving: {workers: 1:4}\ndata:", "2:20", "or {min: N, max: N}", ""),
        ("data:", "serving: {workers: {max: 65}}\ndata:", "2:26", "from 1 to 64", ""),
        ("data:", "serving: {workers: {min: 2}}\ndata:", "2:20", "'max' is missing", "The maximum"),
        ("data:", "serving: {workers: {min: 4, max: 2}}\ndata:", "2:26", "min 4 is above max 2", ""),
        ("data:", "serving: {workers: true}\ndata:", "2:20", "found `true`", ""),
        ("data:", "serving: {port: 70000}\ndata:", "2:17", "expected a port", ""),
        ("data:", "serving: {rate: 100 per day}\ndata:", "2:17", "expected a rate like 100/s", ""),
        ("data:", "serving: {rate: 0/s}\ndata:", "2:17", "expected a rate like 100/s", ""),
        ("data:", "serving: {hosts: [a.org:80]}\ndata:", "2:19", "expected a host name without a port", ""),
        ("data:", "retrain: {schedule: 0 25 * * *}\ndata:", "2:21", "not a cron line", "weekday"),
        ("data:", "retrain: {at_most: often}\ndata:", "2:20", "expected a rate like 1 per day", ""),
        ("data:", "retrain: {on: [code, dta]}\ndata:", "2:22", "found the text 'dta'", "'data'"),
        ("data:", "monitor: {drift: -1}\ndata:", "2:18", "below zero", ""),
        ("data:", "goal: !!python/name:os.system x\ndata:", "2:7", "tags are not allowed", ""),
        ("data:", "params: ${NOBODY}\ndata:", "2:9", "no variable NOBODY", "${NOBODY:-default}"),
        ("data:", "goal: [\ndata:", "4:11", "is not YAML", ""),
        ("data:", f"goal: {'[' * 40}\ndata:", "2:38", "nested deeper than 32", ""),
    ],
)
def test_a_mistake_names_its_place(home: Path, old: str, new: str, where: str, message: str, hint: str) -> None:
    assert old in GOOD
    error = refuse(home, GOOD.replace(old, new, 1))
    assert error.where == f"noria.yaml:{where}", str(error)
    assert message in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_points_to_init(home: Path, text: str) -> None:
    assert "noria init" in (refuse(home, text).hint or "")


def test_a_missing_file_points_to_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert caught.value.where == "noria.yaml"
    assert "noria init" in (caught.value.hint or "")


def test_a_circle_of_steps_is_told_in_order(home: Path) -> None:
    (home / "model.py").write_text(MODEL + "def a(c): pass\ndef b(a): pass\ndef c(b): pass\n")
    error = refuse(home, GOOD + "steps: {a: model:a, b: model:b, c: model:c}\n")
    circle = error.message.removeprefix("the steps form a cycle: ").split(" takes ")
    takes = {"a": "c", "b": "a", "c": "b"}
    assert len(circle) == 4
    assert all(takes[one] == other for one, other in itertools.pairwise(circle))


def test_source_that_is_not_python_is_named(home: Path) -> None:
    (home / "model.py").write_text("def train(:\n")
    error = refuse(home, GOOD)
    assert (error.where or "").startswith("model.py:1:")
    (home / "model.py").write_bytes(b"\0")
    assert refuse(home, GOOD).where == "model.py"


def test_parameters_that_training_does_not_take(home: Path) -> None:
    (home / "params.yaml").write_text("train: {rat: 0.2}\n")
    error = refuse(home, GOOD)
    assert "params.train.rat is not an argument of" in error.message
    assert "'rate'" in (error.hint or "")


def test_an_argument_of_training_that_nothing_gives(home: Path) -> None:
    (home / "model.py").write_text("def train(features, label, depth): pass\n")
    assert "takes 'depth' (model.py:1), which nothing provides" in refuse(home, GOOD).message


def test_few_lines_cannot_stand_for_millions_of_values(home: Path) -> None:
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "too many values" in refuse(home, laughs).message


def test_a_value_inside_itself(home: Path) -> None:
    assert "too many values" in refuse(home, "data: &a {x: *a}\n").message


def test_bytes_that_are_no_text(home: Path) -> None:
    (home / "noria.yaml").write_bytes(b"project: p\xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(home)


def test_a_file_beyond_the_limit(home: Path) -> None:
    assert "larger than 1 MB" in refuse(home, GOOD + "#" * (1 << 20)).message


@pytest.mark.parametrize("name", ["x" * 5000, '"a\\0b"'])
def test_a_name_that_no_file_can_have(home: Path, name: str) -> None:
    error = refuse(home, f"params: {name}\n{GOOD}")
    assert error.where == "noria.yaml:1:9"
    assert "there is no file" in error.message


def test_a_module_that_no_file_can_be(home: Path) -> None:
    assert "there is no module" in refuse(home, GOOD.replace("model:train", f"{'m' * 5000}:train")).message


@pytest.mark.parametrize("text", ["rows <= 1e999", "f1 >= champion - 1e999"])
def test_a_gate_beyond_all_numbers(home: Path, text: str) -> None:
    assert "too large" in refuse(home, f"{GOOD}gates: [{text}]\n").message


@pytest.mark.parametrize(
    "source",
    [
        "from table import *\n",
        "from contextlib import suppress\nwith suppress(ImportError):\n    from table import train\n",
        "try:\n    from fast import train\nexcept ImportError:\n    from table import train\n",
        "import table\ntrain = table.train\n",
    ],
)
def test_a_function_that_may_come_from_elsewhere_is_not_missed(home: Path, source: str) -> None:
    (home / "table.py").write_text(MODEL)
    (home / "model.py").write_text(source)
    assert config.load(home, environ={}).name == "pumps"
