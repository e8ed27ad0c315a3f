"""The grammar of gates."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import config
from noria.kernel.errors import ConfigError
from noria.kernel.policy import Gate


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("roc_auc >= 0.60", Gate("roc_auc >= 0.60", "roc_auc", True, 0.6)),
        ("  brier<=.2 ", Gate("brier<=.2", "brier", False, 0.2)),
        ("r2 >= -0.5", Gate("r2 >= -0.5", "r2", True, -0.5)),
        ("rows >= 1e3", Gate("rows >= 1e3", "rows", True, 1000)),
        ("f1 >= champion", Gate("f1 >= champion", "f1", True, 0.0, champion=True)),
        ("f1 >= champion - 0.01", Gate("f1 >= champion - 0.01", "f1", True, -0.01, champion=True)),
        ("mae <= champion+2", Gate("mae <= champion+2", "mae", False, 2.0, champion=True)),
        ("f1 >= champion - 0.01 at 90%", Gate("f1 >= champion - 0.01 at 90%", "f1", True, -0.01, True, None, 0.9)),
        ("mae <= champion + 5%", Gate("mae <= champion + 5%", "mae", False, 0.05, champion=True, relative=True)),
        ("f1 >= best - 0.02", Gate("f1 >= best - 0.02", "f1", True, -0.02, champion=True, best=True)),
        ("f1 >= best - 2 % at 90%", Gate("f1 >= best - 2 % at 90%", "f1", True, -0.02, True, None, 0.9, True, True)),
        ("brier no worse than champion", Gate("brier no worse than champion", "brier", False, 0.0, True, no_worse=True)),
        (
            "f1  no worse than best at 90%",
            Gate("f1 no worse than best at 90%", "f1", True, 0.0, True, None, 0.9, True, no_worse=True),
        ),
        (
            "mae no worse than best by 2% at 90%",
            Gate("mae no worse than best by 2% at 90%", "mae", False, 0.02, True, None, 0.9, True, True, True),
        ),
        ("f1 no worse than champion by .01", Gate("f1 no worse than champion by .01", "f1", True, -0.01, True, no_worse=True)),
        ("roc_auc >= 0.5 at 95%", Gate("roc_auc >= 0.5 at 95%", "roc_auc", True, 0.5, bound=True)),
        ("worst(f1, by=home town) >= 0.5", Gate("worst(f1, by=home town) >= 0.5", "f1", True, 0.5, by="home town")),
        (
            "worst( f1 ,by = x )>=0.5 at 99.5 %",
            Gate("worst( f1 ,by = x )>=0.5 at 99.5 %", "f1", True, 0.5, False, "x", 0.995, bound=True),
        ),
    ],
)
def test_a_gate(text: str, gate: Gate) -> None:
    assert config.parse_gate(text) == gate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f1",
        "f1 > 0.5",
        "f1 == 0.5",
        "f1 >= ",
        "f1 >= high",
        "f1 >= 0.5 at 40%",
        "f1 >= 0.5 at 100%",
        "f1 >= 0.5 0.6",
        "f1 >= champion - -1",
        "worst(f1) >= 0.5",
        "worst(f1, by=) >= 0.5",
        "worst(f1, by=x) >= champion",
        "worst(rows, by=x) >= 5",
        "latency_p99_ms <= champion",
        "latency_p99_ms no worse than best",
        "f1 no worse than 0.5",
        "f1 no better than champion",
        "f1 >= 0.5%",
        "worst(f1, by=x) >= best",
        "worst(f1, by=x) no worse than champion",
        "0.5 <= f1",
        "f1 >= nan",
    ],
)
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(ConfigError):
        config.parse_gate(text)


def test_a_misspelt_metric_gets_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse_gate("average_precison >= 0.5")
    assert caught.value.hint == "Did you mean 'average_precision'?"


@given(st.sampled_from(["roc_auc", "mae"]), st.booleans(), st.floats(0, 1e6), st.sampled_from("+-"), st.integers(50, 99))
def test_what_is_printed_is_read(metric: str, at_least: bool, margin: float, sign: str, percent: int) -> None:
    gate = config.parse_gate(f"{metric} {'>=' if at_least else '<='} champion {sign} {margin!r} at {percent}%")
    assert (gate.metric, gate.at_least, gate.champion) == (metric, at_least, True)
    assert gate.value == (margin if sign == "+" else -margin)
    assert gate.confidence == percent / 100


@given(st.text(alphabet="f1wors(), by=><0.5champion+-at%", max_size=40))
def test_any_text_is_a_gate_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert config.parse_gate(text).text == " ".join(text.split())
