"""The version of scikit-learn that a file was saved by: recorded, shown, and named where another one may answer otherwise."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn.base
from sklearn.linear_model import LogisticRegression

from noria import cli
from noria.models.frameworks import written_with

OLD = "1.2.2"
ASKED = ["--sample", "rows.csv", "--label", "churned", "--vouch-for-pickle"]


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> LogisticRegression:
    """A model that says, wherever it is saved, that an older scikit-learn saved it."""
    rows = np.random.default_rng(0).normal(2, 3, (100, 3))
    model = LogisticRegression().fit(rows, rows[:, 0] > 2)
    monkeypatch.setattr(sklearn.base, "__version__", OLD)
    return model


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_pickle_tells_it(protocol: int, old: LogisticRegression, tmp_path: Path) -> None:
    """Number 18: the file's own version, read without loading it."""
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(old, protocol=protocol))
    assert written_with.versions(tmp_path / "m.pkl", "pickle") == {"scikit-learn": OLD}


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_every_compression_of_joblib_tells_it(compress: Any, old: LogisticRegression, tmp_path: Path) -> None:
    """Number 18: also of what joblib compressed."""
    joblib.dump({"much": np.random.default_rng(0).bytes(1_200_000), "model": old}, tmp_path / "m.joblib", compress=compress)
    assert written_with.versions(tmp_path / "m.joblib", "pickle") == {"scikit-learn": OLD}


def test_files_that_say_nothing_or_lie_tell_nothing(tmp_path: Path) -> None:
    """Number 18: damaged files are the reader's trouble."""
    for content in (b"", b"\x80\x05", b"_sklearn_version\x94\x8c", b"PK\x03\x04", b"\x1f\x8b\x08cut"):
        (tmp_path / "m").write_bytes(content)
        assert written_with.versions(tmp_path / "m", "pickle") == written_with.versions(tmp_path / "m", "skops") == {}


@pytest.mark.parametrize("kind", ["joblib", "skops"])
def test_a_version_that_differs_is_recorded_and_said(
    kind: str, old: LogisticRegression, home: Path, inside: None, noria: Callable[..., Any], capsys: Any, monkeypatch: Any
) -> None:
    """Number 18: the import goes on, and says it with both versions and the cure."""
    if kind == "skops":
        pytest.importorskip("skops.io", reason="skops is not installed: pip install skops").dump(old, "m.skops")
    else:
        joblib.dump(old, "m.joblib")
    monkeypatch.undo()
    monkeypatch.chdir(home)
    installed = version("scikit-learn")
    found = noria("release", "import", f"m.{kind}", *ASKED)
    assert found["origin"]["written_with"] == {"scikit-learn": OLD}
    assert found["origin"]["read_with"] == {"scikit-learn": installed}
    (warning,) = found["origin"]["warnings"]
    for text in (f"saved by scikit-learn {OLD}, and {installed} is installed", f"pip install scikit-learn=={OLD}"):
        assert text in warning
    assert cli.execute(["show", "v1"]) == 0
    shown = capsys.readouterr().out
    assert f"scikit-learn {OLD}; read by {installed}" in shown
    assert "it may answer otherwise" in " ".join(shown.split())


def test_the_same_version_is_recorded_without_a_word(home: Path, inside: None, noria: Callable[..., Any], capsys: Any) -> None:
    """Number 18: where nothing differs there is nothing to warn of."""
    rows = np.random.default_rng(0).normal(2, 3, (100, 3))
    joblib.dump(LogisticRegression().fit(rows, rows[:, 0] > 2), "m.joblib")
    found = noria("release", "import", "m.joblib", *ASKED)
    assert found["origin"]["written_with"] == {"scikit-learn": version("scikit-learn")}
    assert found["origin"]["warnings"] == []


@pytest.mark.parametrize("broken", ["does not load", "does not answer"])
def test_where_it_fails_the_version_is_the_likely_cause(
    broken: str, old: LogisticRegression, home: Path, inside: None, noria: Callable[..., Any]
) -> None:
    """Number 18: a model of an older scikit-learn lacks what the installed one asks for; the reason says so."""
    if broken == "does not answer":
        del old.coef_
        old.fitted_ = True
    content = pickle.dumps(old)
    if broken == "does not load":
        content = content.replace(b"sklearn.linear_model._logistic", b"sklearn.linear_model._logisti0")
    Path("m.pkl").write_bytes(content)
    said = noria("release", "import", "m.pkl", *ASKED, code=1)
    assert f"it was saved by scikit-learn {OLD}, and {version('scikit-learn')} is installed: likely the cause" in said["message"]
    assert f"pip install scikit-learn=={OLD}" in said["hint"]
