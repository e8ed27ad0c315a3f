"""``model.also`` and the parameters of ``features``: what is read, and each mistake with its place and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria import config
from noria.kernel.errors import ConfigError

MODULE = """
def train(features, label, *, regions=None, rate=0.1): return None
def plain(features, label): return None
def anything(features, label, **more): return None
def build(rows, *, regions, window, shift=1, floor=0): return rows
def open_build(rows, **more): return rows
def joined(rows): return rows
"""
HEAD = """\
project: pumps
data:
  readings: data/*.csv
  regions: regions.csv
  pictures: {source: "pictures/*", format: files}
model:
  rows: readings
  inputs: [age]
  label: fails
"""


def read(home: Path, model: str, params: str = "{}") -> config.Model:
    (home / "m.py").write_text(MODULE)
    (home / "noria.yaml").write_text(HEAD + model)
    (home / "params.yaml").write_text(params)
    found = config.load(home, environ={}).model
    assert found is not None
    return found


def test_features_take_their_section_then_the_top_level_as_far_as_they_ask(tmp_path: Path) -> None:
    text = "  train: m:train\n  features: m:build\n  also: [regions]\n"
    made = read(tmp_path, text, "{features: {window: 3, other: 1}, shift: 2, rate: 9, train: {}}")
    assert made.also == ("regions",)
    assert made.feature_params == ("window", "shift")
    made = read(tmp_path, "  train: m:plain\n  features: m:open_build\n", "{features: {window: 3}, shift: 2, train: {}}")
    assert made.feature_params == ("window",)
    assert read(tmp_path, "  train: m:plain\n").feature_params == ()


def test_every_algorithm_of_a_search_may_take_a_table(tmp_path: Path) -> None:
    made = read(tmp_path, "  also: [regions]\n  search: {algorithms: {a: {train: m:train}, b: {train: m:plain}}}\n")
    assert made.also == ("regions",)
    assert made.search is not None
    assert read(tmp_path, "  also: [regions]\n  train: m:anything\n").also == ("regions",)


@pytest.mark.parametrize(
    ("model", "params", "where", "message", "hint"),
    [
        ("  also: [regoins]\n  train: m:train\n", "{}", "10:10", "there is no step or dataset 'regoins'", "'regions'"),
        ("  also: [readings]\n  train: m:train\n", "{}", "10:10", "'readings' is the labelled table", "Let a step make a table"),
        ("  also: [pictures]\n  train: m:train\n", "{}", "10:10", "files that are no tables", "Let a step make a table"),
        ("  also: [regions]\n  train: m:plain\n", "{}", "10:10", "m:plain takes no argument 'regions'", "*, regions)"),
        (
            "  also: [regions]\n  train: m:plain\n  features: m:joined\n", "{}", "10:10",
            "m:plain nor m:joined takes no argument 'regions'", "def features(rows, *, regions)",
        ),
        (
            "  also: [regions]\n  train: m:train\n", "{train: {regions: 3}}", "10:10",
            "is also a parameter of training: params.train.regions", "Rename one",
        ),
        ("  train: m:plain\n  features: m:build\n", "{}", "11:13", "m:build takes 'regions' (m.py:5)", "a table in also"),
        (
            "  also: [regions]\n  train: m:plain\n  features: m:build\n", "{}", "12:13",
            "m:build takes 'window' (m.py:5), which nothing provides", "features: {window: ...}",
        ),
        ("  also: [groups]\n  groups: house\n  train: m:anything\n", "{}", "10:10", "there is no step or dataset 'groups'", ""),
    ],
)  # fmt: skip
def test_each_mistake_says_what_where_and_what_next(
    model: str, params: str, where: str, message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, model, params)
    assert caught.value.where == f"noria.yaml:{where}"
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_dataset_called_like_an_argument_that_a_column_gives_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(MODULE)
    text = HEAD.replace("  regions:", "  groups:") + "  also: [groups]\n  groups: house\n  train: m:anything\n"
    (tmp_path / "noria.yaml").write_text(text)
    with pytest.raises(ConfigError, match="the argument 'groups' is given by a column of the table"):
        config.load(tmp_path, environ={})
