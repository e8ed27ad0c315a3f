"""What a candidate lacks at a gate that it failed."""

from __future__ import annotations

import pytest

from noria.config import parse_gate
from noria.evaluation.judge_shortfall import shortfall_words

BEHIND = {"difference": -0.11, "low": -0.119, "high": -0.1, "margin": -0.02}
ABOVE = {"difference": 0.023, "low": 0.021, "high": 0.026, "margin": 0.005}


@pytest.mark.parametrize(
    ("gate", "numbers", "said"),
    [
        ("roc_auc >= 0.7", {"value": 0.65, "threshold": 0.7}, "roc_auc 0.05 higher"),
        ("latency_p99_ms <= 50", {"value": 80.0, "threshold": 50.0}, "latency_p99_ms 30 lower"),
        (
            "roc_auc >= 0.7 at 95%",
            {"value": 0.65, "threshold": 0.7, "low": 0.62, "high": 0.68},
            "roc_auc about 0.08 higher, if its bounds stay as wide",
        ),
        ("roc_auc >= champion - 0.02", BEHIND, "roc_auc about 0.099 higher, if its bounds stay as wide"),
        ("brier <= champion + 0.005", ABOVE, "brier about 0.021 lower, if its bounds stay as wide"),
        ("roc_auc no worse than champion by 0.02", BEHIND, "roc_auc about 0.08 higher, if its bounds stay as wide"),
        ("brier no worse than champion by 0.005", ABOVE, "brier about 0.016 lower, if its bounds stay as wide"),
        (
            "worst(roc_auc, by=origin) >= 0.7",
            {"value": 0.5, "threshold": 0.7},
            "roc_auc 0.2 higher in the slice of origin that is worst",
        ),
        ("roc_auc >= 0.7", {}, ""),
        ("roc_auc >= 0.7", {"value": 0.8, "threshold": 0.7}, ""),
        ("roc_auc >= 0.7", {"value": float("nan"), "threshold": 0.7}, ""),
    ],
)
def test_what_is_lacking(gate: str, numbers: dict[str, float], said: str) -> None:
    assert shortfall_words(parse_gate(gate), numbers) == said
