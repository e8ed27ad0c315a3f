"""The search of noria.yaml: what is read, and one error for each mistake, at its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from noria import config
from noria.config import Algorithm, Dimension, Search
from noria.kernel.errors import ConfigError

MODULE = """
def trees(features, label, *, rate=0.1, leaves=31, seed=0):
    return None

def linear(features, label, *, c):
    return None

def anything(features, label, **more):
    return None
"""
HEAD = """\
project: pumps
data: {readings: data/*.csv}
model:
  label: fails
"""


TRAIN = "  train: m:trees\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text(MODULE)
    return tmp_path


def load(home: Path, text: str, params: str = "") -> config.Model:
    (home / "noria.yaml").write_text(HEAD + text)
    (home / "params.yaml").write_text(params)
    model = config.load(home, environ={}).model
    assert model is not None
    return model


def test_one_algorithm_with_every_kind_of_dimension(home: Path) -> None:
    space = "{rate: [0.01, 0.3, log], leaves: [15, 255], seed: {choice: [1, 2.5, x, true]}}"
    search = load(home, TRAIN + f"  search: {{metric: roc_auc, trials: 7, folds: 2, timeout: 1h, space: {space}}}\n").search
    expected = {
        "rate": Dimension(0.01, 0.3, log=True),
        "leaves": Dimension(15, 255),
        "seed": Dimension(choices=(1, 2.5, "x", True)),
    }
    assert search == Search("roc_auc", {"trees": Algorithm("trees", "m:trees", expected)}, 7, 2, 3600.0)
    leaves, rate = search.algorithms["trees"].space["leaves"], search.algorithms["trees"].space["rate"]
    assert (type(leaves.low), type(rate.low)) == (int, float)


def test_mixed_numbers_are_floats_and_one_value_is_fixed(home: Path) -> None:
    search = load(home, "  train: m:trees\n  search: {space: {rate: [0, 1.5], leaves: 8, seed: [a, b]}}\n").search
    assert search is not None
    space = search.algorithms["trees"].space
    assert [type(v) for v in (space["rate"].low, space["rate"].high)] == [float, float]
    assert space["leaves"].fixed
    assert space["seed"].choices == ("a", "b")
    assert (search.metric, search.trials, search.folds, search.parallel, search.timeout_s) == ("brier", 30, 3, None, None)


def test_algorithms_share_a_space_and_take_their_own_part_of_the_params(home: Path) -> None:
    text = """\
  task: regression
  search:
    parallel: 3
    algorithms:
      trees: {train: "m:trees", space: {rate: [0.1, 1.0]}}
      linear: {train: "m:linear", space: {c: [1, 2]}}
      anything: "m:anything"
"""
    model = load(home, text, "train: {seed: 3, leaves: 9}\n")
    assert model.train == "m:trees"
    assert model.search is not None
    assert model.search.metric == "mae"
    assert model.search.parallel == 3
    takes = {name: algorithm.takes for name, algorithm in model.search.algorithms.items()}
    assert takes == {"trees": ("seed", "leaves"), "linear": (), "anything": ("seed", "leaves")}


def test_a_shared_space_is_each_algorithms_unless_it_has_its_own(home: Path) -> None:
    text = '  search: {space: {rate: [0.1, 1.0]}, algorithms: {a: "m:trees", b: {train: "m:anything", space: {rate: [5, 6]}}}}\n'
    search = load(home, text).search
    assert search is not None
    assert search.algorithms["a"].space == {"rate": Dimension(0.1, 1.0)}
    assert search.algorithms["b"].space == {"rate": Dimension(5, 6)}


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        (TRAIN + "  search: {space: {rat: [0.1, 1.0]}}\n", "6:25", "'rat' is not an argument of m:trees (m.py:2)", "'rate'"),
        (
            TRAIN + "  search: {space: {rate: [1.0, 0.1]}}\n",
            "6:32",
            "the range ends at 0.1, which is not above 1.0",
            "[low, high]",
        ),
        (TRAIN + "  search: {space: {rate: [2, 2]}}\n", "6:30", "the range ends at 2, which is not above 2", "[low, high]"),
        (TRAIN + "  search: {space: {rate: [0, 1, log]}}\n", "6:27", "a range with log must start above zero, not at 0", None),
        (TRAIN + "  search: {space: {rate: [1, 2, 3]}}\n", "6:26", "found a list of 3 values", "{choice: [...]}"),
        (TRAIN + "  search: {space: {rate: [1, 2, lgo]}}\n", "6:26", "found a list of 3 values", "log"),
        (TRAIN + "  search: {space: {rate: [a, a]}}\n", "6:30", "'a' is listed twice", None),
        (TRAIN + "  search: {space: {rate: {choice: []}}}\n", "6:35", "expected at least one choice", None),
        (TRAIN + "  search: {space: {rate: {choise: [1]}}}\n", "6:26", "expected a range or choices, found a mapping", "choice"),
        (TRAIN + "  search: {space: {rate: {choice: [[1]]}}}\n", "6:36", "found a list", None),
        (TRAIN + "  search: {space: {rate: 1}}\n", "6:19", "there is nothing to search", None),
        (TRAIN + "  search: {}\n", "6:11", "there is nothing to search", None),
        (
            TRAIN + "  search: {metric: mae, space: {rate: [1, 2]}}\n",
            "6:20",
            "'mae' is not a metric of a binary model",
            "roc_auc",
        ),
        (TRAIN + "  search: {trials: 0, space: {rate: [1, 2]}}\n", "6:20", "a number from 1 to 10000", None),
        (TRAIN + "  search: {parallel: all, space: {rate: [1, 2]}}\n", "6:22", "expected auto, or a number", None),
        (TRAIN + "  search: {trails: 3, space: {rate: [1, 2]}}\n", "6:12", "unknown key 'trails'", "'trials'"),
        (TRAIN + "  search: {algorithms: {}}\n", "6:24", "at least one algorithm", None),
        (
            TRAIN + '  search: {algorithms: {a: "m:linear"}}\n',
            "5:10",
            "m:trees is none of the search's algorithms",
            "Leave train out",
        ),
        ('  search: {algorithms: {a: "m:tress"}}\n', "5:28", "there is no function 'tress'", "'trees'"),
        (
            '  search: {algorithms: {a: "m:linear", b: "m:trees"}}\n',
            "5:28",
            "m:linear takes 'c' (m.py:5), which nothing provides",
            "space",
        ),
        ('  search: {algorithms: {a: "m:trees"}}\n', "5:11", "there is nothing to search", None),
        ("  search: {space: {rate: [1, 2]}}\n", "4:3", "'train' is missing", "train:"),
        ("  task: binary\n", "4:3", "'train' is missing", "train:"),
    ],
)
def test_mistakes(home: Path, text: str, where: str, message: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        load(home, text)
    assert caught.value.where == f"noria.yaml:{where}"
    assert message in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_a_parameter_that_no_algorithm_takes_is_an_error(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.train\.speed is not an argument of m:trees"):
        load(home, TRAIN + "  search: {space: {rate: [0.1, 1.0]}}\n", "train: {seed: 1, speed: 2}\n")


def test_a_step_may_be_called_as_a_stage(home: Path) -> None:
    """Number 17: the stage's own result is then called by the model."""
    load(home, TRAIN + "steps: {search: {cmd: 'true', outs: [x]}}\n")
    project = config.load(home, environ={})
    assert (project.result_name("search"), project.result_name("train")) == ("model.search", "train")


def test_the_flights_search_is_the_flights_project_with_a_search(tmp_path: Path) -> None:
    flights = Path(__file__).parents[2] / "examples" / "flights"
    shutil.copytree(flights, tmp_path / "home", ignore=shutil.ignore_patterns("data", ".noria"))
    plain = config.load(tmp_path / "home", environ={})
    shutil.copy(flights / "noria.search.yaml", tmp_path / "home" / "noria.yaml")
    searched = config.load(tmp_path / "home", environ={})
    assert searched.model is not None
    assert searched.model.search is not None
    assert list(searched.model.search.algorithms) == ["trees", "linear", "forest"]
    model = replace(searched.model, search=None)
    assert replace(searched, model=model, home=plain.home, digest=plain.digest) == plain


def test_columns_give_arguments_by_name(home: Path) -> None:
    """Number 26: weights and groups come from columns, for a single function as for the algorithms of a search."""
    (home / "m.py").write_text(MODULE + "\ndef weighted(features, label, *, sample_weight, groups=None, c=1):\n    return None\n")
    made = load(home, "  train: m:weighted\n  weight: w\n  groups: house\n  decision: {threshold: 0.3}\n")
    assert (made.weight, made.groups, made.threshold) == ("w", "house", 0.3)
    search = load(home, "  weight: w\n  search: {algorithms: {a: m:weighted, b: m:anything}}\n").search
    assert search is not None
    assert list(search.algorithms) == ["a", "b"]
    with pytest.raises(ConfigError, match="m:trees takes no 'sample_weight'"):
        load(home, "  weight: w\n  search: {algorithms: {a: m:weighted, b: m:trees}}\n")
    with pytest.raises(ConfigError, match=r"takes 'sample_weight' .*which nothing provides"):
        load(home, "  train: m:weighted\n")
