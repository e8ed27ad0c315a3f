"""What comes from the environment is used, and shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from noria import config
from noria.kernel.errors import ConfigError

SECRETS = {"TOKEN": "HUNTER2-and-more", "LINES": "it's\nhunter2", "LONG": "hunter2" * 30, "N": "4"}
TEXT = """\
project: pumps
goal: cheaper than ${TOKEN}
data: {readings: "${TOKEN}/*.csv"}
model: {inputs: [age], label: fails, train: "model:train"}
steps: {clean: {cmd: "curl -H ${TOKEN}"}}
checks: {code: "pytest --token ${TOKEN}"}
git: {repository: "https://x:${TOKEN}@example.org/x.git"}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text("def train(features, label): pass\n")
    (tmp_path / "noria.yaml").write_text(TEXT)
    return tmp_path


def test_a_secret_is_used_and_neither_shown_nor_hashed(home: Path) -> None:
    project = config.load(home, environ=SECRETS)
    other = config.load(home, environ={"TOKEN": "another"})
    assert project.git.repository == "https://x:HUNTER2-and-more@example.org/x.git"
    assert project.data["readings"].source == "HUNTER2-and-more/*.csv"
    assert project.digest == other.digest == blake3(TEXT.encode()).hexdigest()
    assert "hunter2" not in repr(project).lower()


def test_a_variable_in_a_command_is_the_shell_s(home: Path) -> None:
    """Number 8: only addresses and secrets are expanded; commits of before had to write ``$${`` for the shell's ``${``."""
    (home / "noria.yaml").write_text(TEXT.replace("curl -H ${TOKEN}", "cat ${NORIA_INPUT_READINGS} $${HOME} $HOME"))
    project = config.load(home, environ=SECRETS)
    assert project.goal == "cheaper than ${TOKEN}"
    assert project.checks.code == "pytest --token ${TOKEN}"
    assert project.steps["clean"].cmd == "cat ${NORIA_INPUT_READINGS} ${HOME} $HOME"


@pytest.mark.parametrize("variable", ["TOKEN", "LINES", "LONG"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("project: pumps", "project: '%'"),
        ('"${TOKEN}/*.csv"', "'log:%'"),
        ('"${TOKEN}/*.csv"', "{source: x, contract: '%'}"),
        ('"${TOKEN}/*.csv"', "{source: x, settle: '%'}"),
        ("[age]", "['%', '%']"),
        ("[age]", "'%'"),
        ("label: fails", "label: '%', task: '%'"),
        ("label: fails", "label: x, rows: '%'"),
        ('"model:train"', "'%:train'"),
        ('"model:train"', "'model:%'"),
        ("checks:", "params: '../%'\nchecks:"),
        ("checks:", "params: '%'\nchecks:"),
        ("checks:", "gates: ['%']\nchecks:"),
        ("checks:", "serving: {workers: '%'}\nchecks:"),
        ("checks:", "retrain: {schedule: '%'}\nchecks:"),
        ("checks:", "environments: {live: {after: '%'}}\nchecks:"),
    ],
)
def test_no_error_shows_a_secret(home: Path, variable: str, old: str, new: str) -> None:
    assert old in TEXT
    (home / "noria.yaml").write_text(TEXT.replace(old, new.replace("%", f"${{{variable}}}"), 1))
    with pytest.raises(ConfigError) as caught:
        config.load(home, environ=SECRETS)
    assert "hunter2" not in str(caught.value).lower()


def test_a_source_shows_no_secret(home: Path) -> None:
    query = "{sql: {url: 'postgresql://me:${TOKEN}@h/db', query: select 1}}"
    for written, shown in [(query, "postgresql://me:***@h/db"), ("'s3://${TOKEN}/x.csv'", "s3://${TOKEN}/x.csv")]:
        (home / "noria.yaml").write_text(TEXT.replace('"${TOKEN}/*.csv"', written))
        found = config.load(home, environ=SECRETS).data["readings"]
        assert found.shown == shown
        assert "hunter2" not in repr(found).lower()


def test_an_error_says_which_variable_was_wrong(home: Path) -> None:
    (home / "noria.yaml").write_text(TEXT + "serving: {workers: '${N}'}\n")
    with pytest.raises(ConfigError, match=r"from 1 to 64, or {min: N, max: N}, found the text '\$\{N\}'"):
        config.load(home, environ=SECRETS)
