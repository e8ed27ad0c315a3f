"""`serving.log`: what the prediction log holds; and what is said about a policy that cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria import config
from noria.kernel.errors import ConfigError
from noria.kernel.policy import RECORD_ALL, LogPolicy, WhenFull

PROJECT = """project: x
data: {points: points.csv}
model: {label: late, train: "model:train", inputs: [carrier, distance], key: flight_id, event_time: at}
"""


def load(home: Path, more: str) -> LogPolicy:
    (home / "points.csv").write_text("carrier,late\nAA,1\n")
    (home / "model.py").write_text("def train(features, label): ...\n")
    (home / "noria.yaml").write_text(PROJECT + more)
    return config.load(home).serving.log


@pytest.mark.parametrize("more", ["", "serving: {port: 0}\n", "serving: {log: all}\n", "serving: {log: {}}\n"])
def test_all_is_kept_for_ever_unless_told_otherwise(tmp_path: Path, more: str) -> None:
    assert load(tmp_path, more) == RECORD_ALL == LogPolicy(1.0, None, (), WhenFull.REFUSE)


def test_a_policy_is_read(tmp_path: Path) -> None:
    found = load(tmp_path, "serving: {log: {sample: 10%, keep: 90d, redact: [carrier, flight_id, at], when_full: count}}\n")
    assert found == LogPolicy(0.1, 90 * 86400.0, ("carrier", "flight_id", "at"), WhenFull.COUNT)


@pytest.mark.parametrize(
    ("policy", "where", "message", "hint"),
    [
        ("{redact: [carier]}", "4:26", "no request carries 'carier'", "Did you mean 'carrier'?"),
        ("{redact: [late]}", "4:26", "no request carries 'late'", "Did you mean"),
        ("{keep: 1d}", "4:23", "the monitor judges a window 2 d after its start", "at least one day"),
        ("{keep: 1h}", "4:23", "when the log would already be deleted", ""),
        ("{sample: 0}", "4:25", "expected a share above zero", ""),
        ("{sample: 120%}", "4:25", "expected a share above zero", ""),
        ("{when_full: drop}", "4:28", "expected refuse or count", ""),
        ("{keeps: 9d}", "4:17", "unknown key 'keeps'", "Did you mean 'keep'?"),
        ("none", "4:16", "expected `all` or a mapping", ""),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_place(tmp_path: Path, policy: str, where: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"serving: {{log: {policy}}}\n")
    assert caught.value.where == f"noria.yaml:{where}"
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_short_memory_suits_a_quick_monitor(tmp_path: Path) -> None:
    assert load(tmp_path, "serving: {log: {keep: 1d}}\nmonitor: {every: 6h, label_delay: 6h}\n").keep_s == 86400.0
