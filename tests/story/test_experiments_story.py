"""A step that logs, in a process of its own, in Python and in the shell: from its lines to the comparison of two runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import Small

CONFIG = """\
project: logs
data:
  points: {source: data/points-*.csv, settle: 100ms}
params: params.yaml
steps:
  fit: {call: "fit:fit"}
  count:
    cmd: "printf '{\\"m\\": \\"lines\\", \\"v\\": 3}\\\\n{\\"tags\\": [\\"shell\\"]}\\\\n{\\"m\\": \\"torn' >> \\"$NORIA_TRACK\\""
"""
FIT = """\
from pathlib import Path

from noria import track


def fit(points, lr):
    for epoch in range(1000):
        track.metric("loss", lr / (epoch + 1), step=epoch)
    path = Path("rate.txt")
    path.write_text(str(lr))
    track.artifact(path)
    track.note(f"with {lr}")
    return {"lr": lr}
"""


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small(tmp_path / "home")
    made.write("noria.yaml", CONFIG)
    made.write("params.yaml", "fit: {lr: 0.1}\n")
    made.write("fit.py", FIT)
    made.write(".gitignore", ".noria/\ndata/\nrate.txt\n")
    made.write("data/points-01.csv", "id,a\n1,0.5\n2,0.7\n")
    made.git("init", "-q", "-b", "main")
    made.commit("first")
    return made


def test_what_steps_log_is_kept_found_and_compared(small: Small) -> None:
    assert small.noria("run").code == 0
    assert small.noria("run", "--set", "fit.lr=0.05", "--tag", "slow").code == 0
    (run,) = small.noria("runs", "--where", "tag = 'slow' and metrics.fit.loss < 0.001", "--json").facts["runs"]
    assert run["metrics"] == {"fit.loss": pytest.approx(5e-5), "count.lines": 3.0}
    assert (run["params"]["fit.lr"], run["note"], set(run["tags"])) == (0.05, "with 0.05", {"slow", "shell"})
    assert [name.rpartition("/")[2] for name in run["artifacts"]] == ["rate.txt"]
    shown = small.noria("show", "latest", "--json").facts
    assert shown["series"]["fit"]["loss"]["points"] == 1000
    found = small.noria("diff", "1", "latest", "--json").facts
    assert [(p["before"], p["after"]) for p in found["params"] if p["changed"]] == [(0.1, 0.05)]
    assert {s["name"]: s["text"] for s in found["steps"]} == {"fit": "parameter changed: lr", "count": "the same work"}
    assert {"code", "data", "environment"} <= set(found["same"])
    assert [s["name"] for s in found["series"] if s["changed"]] == ["fit.loss"]
