"""Exports that repeat themselves: told at arrival, and with a key the newest row of each stands."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from noria import cli, config
from noria.data.arrivals import take_in
from noria.engine import assembly
from noria.kernel.errors import ConfigError
from noria.kernel.trigger import TriggerKind
from noria.models import table_arguments
from noria.pipeline import environment, orders, pin
from noria.pipeline.check import data
from noria.pipeline.context import StartedRun
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_store import TurnStore

CONFIG = 'project: p\ndata: {rows: {source: "data/*.csv", settle: 20ms KEY}}\nsteps: {keep: {call: "m:keep"}}\n'


def export(home: Path, month: int, rows: int, **changed: int) -> None:
    (home / "data").mkdir(exist_ok=True)
    lines = [f"k{n},{changed.get(f'k{n}', n)}" for n in range(rows)]
    (home / f"data/export-{month}.csv").write_text("\n".join(["id,v", *lines]) + "\n")


def taken(home: Path, key: str) -> tuple[list[str], pl.DataFrame]:
    """What is said at the arrival of all files, and the table that a step gets."""
    (home / "m.py").write_text("def keep(rows): return rows\n")
    (home / "noria.yaml").write_text(CONFIG.replace("KEY", f", key: {key}" if key else ""))
    context = assembly.assemble(home)
    try:
        project = config.load(home)
        TriggerStore(context.ledger, "p").add(TriggerKind.MANUAL, "by hand")
        turn = TurnStore(context.ledger, "p").start()
        assert turn is not None
        pinned_run = StartedRun(turn, "run-1", project, home, None, None, environment.record(), by_hand=True)
        pinned_run.arrivals = tuple(take_in(context, project, patient=True))
        data(context, pinned_run)
        assert pinned_run.refused == []
        pinned_run = pin.fix(context, pinned_run)
        inputs = orders.TaskInputs()
        facts = inputs.argument(context, pinned_run, "rows", {})
        paths = {}
        for name, digest in inputs.files.items():
            paths[orders.INPUT + name] = context.named_blob(digest, name)
        facts |= {"files": [str(paths[one]) for one in facts["files"]]}
        told = [event.text for event in context.ledger.events.tail("p", kinds=("data.repeats",))]
        return told, table_arguments.argument(facts)
    finally:
        context.executor.close()
        context.ledger.close()


def test_a_repeated_export_is_told_at_arrival_and_changes_nothing_by_itself(tmp_path: Path) -> None:
    """Number 29: a log in which equal rows stand several times keeps its meaning."""
    export(tmp_path, 9, 100)
    export(tmp_path, 10, 140)
    told, table = taken(tmp_path, "")
    (text,) = told
    assert text.startswith("data/export-10.csv repeats 100 of the 100 rows of data/export-9.csv, and they count twice")
    assert table.height == 240


def test_with_a_key_the_newest_row_stands_and_conflicts_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 29: by the order of the files' names, in which 10 comes after 9."""
    export(tmp_path, 9, 100)
    export(tmp_path, 10, 140, k3=-3, k4=-4)
    told, table = taken(tmp_path, "[id]")
    assert told == [
        "data/export-10.csv has 100 of the 100 rows of data/export-9.csv again, by id; the newer row of each is used, "
        "2 of them with other values"
    ]
    assert (table.height, table.filter(pl.col("id") == "k3")["v"].to_list()) == (140, [-3])
    assert "100 rows gave way to newer ones with the same id: 140 stand" in capsys.readouterr().out


def test_files_that_lack_the_key_are_refused(tmp_path: Path) -> None:
    """Number 29: else their rows would be nobody's."""
    export(tmp_path, 1, 30)
    (tmp_path / "data/a.csv").write_text("v\n1\n")
    with pytest.raises(AssertionError, match="has no column id, which data"):
        taken(tmp_path, "[id]")


@pytest.mark.parametrize("dataset", ['{source: "log:production", key: [id]}', '{source: "x/*", format: files, key: [id]}'])
def test_only_tables_have_a_key(tmp_path: Path, dataset: str) -> None:
    """Number 29."""
    (tmp_path / "noria.yaml").write_text(f"project: p\ndata: {{rows: {dataset}}}\nenvironments: {{production: {{}}}}\n")
    with pytest.raises(ConfigError, match="a key is for rows"):
        config.load(tmp_path)


def test_init_and_check_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Number 29: `noria init` says it when it drafts, and writes the key where a column names the rows."""
    monkeypatch.delenv("NORIA_HOME", raising=False)
    for month, rows in ((1, 200), (2, 260)):
        lines = [f"c{n},{n * 7 % 31},{'yes' if n * 7 % 31 > 15 else 'no'}" for n in range(rows)]
        (tmp_path / f"export_{month}.csv").write_text("\n".join(["id,age,churned", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    assert cli.execute(["init", "--data", "export_2.csv", "--label", "churned"]) == 0
    said = capsys.readouterr().out
    assert "export_2.csv holds 200 of the 200 rows of export_1.csv: each file seems to be a whole export" in said
    file = tmp_path / "noria.yaml"
    assert "key: [id]" in file.read_text()
    file.write_text(file.read_text().replace("source: export_2.csv", 'source: "*.csv"'))
    assert cli.execute(["check", "--no-tests", "--json"]) == 0
    texts = [finding["text"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert any("has 200 of the 200 rows of export_1.csv again, by id" in text for text in texts), texts
