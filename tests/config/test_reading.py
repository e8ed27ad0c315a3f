"""A project is read once, and again when one of the files that it depends on has changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from noria import config
from noria.config import loading
from noria.kernel.errors import ConfigError

FILE = """
project: p
data: {readings: {source: "${PLACE}/*.csv", contract: contract.yaml}}
steps: {rows: {call: "work:rows"}}
model: {rows: rows, label: y, train: "work:train"}
"""
WORK = "def rows(readings): ...\ndef train(features, label, *, rate=0.1): ...\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLACE", "data")
    put(tmp_path, "noria.yaml", FILE)
    put(tmp_path, "contract.yaml", "columns: {y: int}\n")
    put(tmp_path, "work.py", WORK)
    return tmp_path


def put(home: Path, name: str, text: str) -> None:
    """A file that was written a while ago: one of this moment is not trusted to stay."""
    path = home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    before = time.time() - 60
    os.utime(path, (before, before))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The homes of the projects that were read, in order."""
    found: list[Path] = []
    real = loading._read

    def counted(home: Path, *more: object) -> object:
        found.append(home)
        return real(home, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "_read", counted)
    return found


def test_what_has_not_changed_is_not_read_again(home: Path, reads: list[Path]) -> None:
    first = config.load(home)
    (home / ".noria").mkdir()
    (home / "unrelated.txt").write_text("x")
    assert all(config.load(home) is first for _ in range(20))
    assert reads == [home]
    assert config.load(home, overrides={}) is first
    assert config.load(home, environ={"PLACE": "data"}) == first
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("noria.yaml", FILE + "monitor: {every: 2d}\n"),
        ("noria.yaml", FILE.replace("project: p", "project: q")),
        ("contract.yaml", "columns: {y: float}\n"),
        ("work.py", WORK + "# more\n"),
        ("params.yaml", "train: {rate: 0.2}\n"),
        ("src/work.py", WORK),
    ],
)
def test_each_file_that_counts_has_it_read_again(home: Path, reads: list[Path], name: str, text: str) -> None:
    before = config.load(home)
    put(home, name, text)
    after = config.load(home)
    assert after is not before
    assert config.load(home) is after
    assert len(reads) == 2


def test_another_value_of_a_variable_counts(home: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config.load(home)
    monkeypatch.setenv("PLACE", "elsewhere")
    assert config.load(home).data["readings"].source == "elsewhere/*.csv"


def test_an_error_is_told_again_until_it_is_mended(home: Path, reads: list[Path]) -> None:
    put(home, "work.py", WORK.replace("rows", "lines"))
    for _ in range(3):
        with pytest.raises(ConfigError, match="there is no function 'rows'") as told:
            config.load(home)
        assert told.value.where == "noria.yaml:4:22"
    assert len(reads) == 1
    put(home, "work.py", WORK)
    assert config.load(home).name == "p"


def test_a_file_of_this_moment_is_read_again(home: Path, reads: list[Path]) -> None:
    """A second write in the same tick of the clock would not show in its times."""
    (home / "noria.yaml").write_text(FILE)
    config.load(home)
    config.load(home)
    assert len(reads) == 2


def test_no_more_than_a_few_are_remembered(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        put(folder, "noria.yaml", "project: p\n")
        config.load(folder)
    assert len(loading.KNOWN._known) <= 8
