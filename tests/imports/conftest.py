"""A project that models are imported into, and one server for all of a module's models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from imported import NAMES, PROJECT

from noria import cli
from noria.models import foreign_model
from noria.releases import importing
from noria.serving.client import Server


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({name: rng.normal(2, 3, 300) for name in NAMES})
    noise = rng.normal(0, 1, 300)
    return table.with_columns(
        plan=pl.Series(rng.choice(["basic", "pro"], 300)),
        churned=pl.Series((table["age"].to_numpy() + noise > 2).astype(int)),
        level=pl.Series(np.digitize(table["spend"].to_numpy(), [0, 3])),
    )


def project(folder: Path, rows: pl.DataFrame) -> Path:
    folder.mkdir()
    (folder / "noria.yaml").write_text(PROJECT)
    rows.select(*NAMES, "churned").write_csv(folder / "rows.csv")
    return folder


@pytest.fixture
def home(tmp_path: Path, rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = project(tmp_path / "home", rows)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read models in this process: another one for each costs seconds, and what it finds is the same."""
    monkeypatch.setattr(importing, "apart", lambda job, _: (foreign_model.main(job), ""))


@pytest.fixture
def noria(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command in this process; its JSON, or its error."""

    def run(*arguments: str, code: int = 0) -> Any:
        found = cli.execute([*arguments, "--json"])
        out = capsys.readouterr().out
        assert found == code, out
        return json.loads(out)["error"] if code else json.loads(out)

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, rows: pl.DataFrame) -> Iterator[Server]:
    """One for all models, which it serves one after the other."""
    home = project(tmp_path_factory.mktemp("served") / "home", rows)
    (home / ".noria").mkdir()
    made = Server(home / ".noria")
    made.start({"staging": ("127.0.0.1", 0), "production": ("127.0.0.1", 0)}, workers=1)
    try:
        yield made
    finally:
        made.stop()
