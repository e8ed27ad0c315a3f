"""`personal_data: {hash, drop}`: no byte of the state folder holds a value of such a column, whatever becomes of its file."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from raw_values import leaks

from noria import config
from noria.cli import execute
from noria.data import arrivals, formats, personal_key, quarantine
from noria.data.quarantine_store import QuarantineStore
from noria.data.store import DataStore
from noria.engine import assembly
from noria.evaluation.look_store import LookStore
from noria.evaluation.records import HoldoutRows
from noria.kernel.errors import ConfigError, StoreError
from noria.kernel.trigger import TriggerKind
from noria.pipeline import check
from noria.pipeline.context import StartedRun
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import TurnOutcome
from noria.pipeline.turn_store import TurnStore
from noria.trust import erasure, verification

CONTRACT = """\
columns:
  id: {type: int, nulls: never}
  email: {type: string}
  x: {type: int, range: [0, 100]}
unique: [email]
"""
TREATED = CONTRACT + "personal_data: {forbid: all, hash: [email, card], drop: [full_name]}\n"
ROW = {"id": 1, "email": "jane.roe@mail.example", "full_name": "Jane Roe-Winterbottom", "card": 4539578763621486, "x": 5}
OTHER = {"id": 2, "email": "omar@post.example", "full_name": "Omar Quillfeather", "card": 6011000990139424, "x": 6}
SECRETS = [str(row[name]) for row in (ROW, OTHER) for name in ("email", "full_name", "card")]


class World:
    def __init__(self, home: Path, contract: str = TREATED, suffix: str = "csv") -> None:
        self.home, self.suffix = home, suffix
        self.write("noria.yaml", f"project: shop\ndata:\n  p: {{source: 'data/*.{suffix}', contract: p.yaml, settle: 1ms}}\n")
        self.write("p.yaml", contract)
        (home / "data").mkdir()
        self.context = assembly.assemble(home, state=home / ".noria")

    def write(self, name: str, text: str) -> None:
        (self.home / name).write_text(text)

    def put(self, *rows: dict[str, object], name: str = "a") -> None:
        table = pl.DataFrame(rows)
        whole = table if self.suffix != "csv" else table.cast(pl.String)
        formats.write_table(self.home / "data" / f"{name}.{self.suffix}", whole)

    def take(self) -> list[str]:
        """What was refused of what arrived."""
        project = config.load(self.home)
        found = arrivals.take_in(self.context, project, patient=True)
        TriggerStore.of(self.context).add(TriggerKind.MANUAL, "now")
        turn = TurnStore.of(self.context).start()
        assert turn is not None
        run = StartedRun(turn, "run", project, self.home, None, None, {}, arrivals=tuple(found))
        check.data(self.context, run)
        return run.refused

    def rows(self) -> pl.DataFrame:
        pins = DataStore.of(self.context).accepted_files("p").values()
        return pl.concat([formats.open_table(self.context.named_blob(one.digest, one.name)).table for one in pins])

    def leaks(self) -> list[str]:
        return leaks(self.home / ".noria", SECRETS)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_no_raw_value_is_stored_of_an_accepted_a_refused_and_a_repaired_file(tmp_path: Path, suffix: str) -> None:
    world = World(tmp_path, suffix=suffix)
    world.put(ROW, {**OTHER, "email": None})
    assert world.take() == []
    assert world.leaks() == []
    table = world.rows()
    assert table.columns == ["id", "email", "card", "x"]
    assert table["email"].null_count() == 1
    assert all(len(value) == 32 for name in ("email", "card") for value in table[name].drop_nulls())
    raw = (tmp_path / f"data/a.{suffix}").read_bytes()
    assert raw
    assert not list((tmp_path / ".noria/work").glob("fetch-*"))

    world.put({**ROW, "x": 500}, OTHER, name="b")
    (refused,) = world.take()
    assert "x" in refused
    assert world.leaks() == []
    (held,) = QuarantineStore.of(world.context).newest("p", 10)
    (failing,) = quarantine.first_rows(world.context, held.delivery, 10)
    assert "full_name" not in failing
    assert failing["email"] == table["email"][0]
    assert world.take() == []  # judged once, whatever its raw bytes are

    world.put(OTHER, name="b")
    assert world.take() == []
    assert world.leaks() == []
    assert world.rows().height == 3
    (tmp_path / f"data/b.{suffix}").touch()  # another mark, the same bytes
    assert arrivals.take_in(world.context, config.load(tmp_path), patient=True) == []
    assert world.leaks() == []
    assert (tmp_path / f"data/a.{suffix}").read_bytes() == raw


def test_equal_values_have_equal_hashes_in_all_files_and_formats(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        (tmp_path / suffix).mkdir()
    one, other = World(tmp_path / "csv"), World(tmp_path / "parquet", suffix="parquet")
    (tmp_path / "csv/.noria" / personal_key.FILE).write_bytes(bytes(range(32)))
    (tmp_path / "parquet/.noria" / personal_key.FILE).write_bytes(bytes(range(32)))
    for world in (one, other):
        world.put(ROW, OTHER)
        assert world.take() == []
    assert one.rows()["email"].to_list() == other.rows()["email"].to_list()
    assert one.rows()["card"].to_list() == other.rows()["card"].to_list()
    one.put({**OTHER, "id": 3}, name="b")
    (again,) = one.take()
    assert "email" in again
    assert "omar" not in again


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("id,mail,full_name,card,x\n1,jane.roe@mail.example,Jane Roe-Winterbottom,4539578763621486,5\n", "has no column email"),
        ("1,jane.roe@mail.example,Jane Roe-Winterbottom,4539578763621486,5\n", "has no columns email, card, full_name"),
        ("id,email,full_name,card,x\n1,jane.roe@mail.example,Jane Roe-Winterbottom\n", "it cannot be read as a table"),
        ("id;email;full_name;card;x\n1;jane.roe@mail.example;Jane Roe-Winterbottom;4539578763621486;5\n", "cannot be read"),
        ("", "it cannot be read as a table"),
    ],
)
def test_what_cannot_be_treated_is_refused_and_not_stored(tmp_path: Path, text: str, why: str) -> None:
    world = World(tmp_path)
    world.write("data/a.csv", text)
    (refused,) = world.take()
    assert why in refused
    assert "p.yaml hashes or drops columns" in refused
    assert world.leaks() == []


def test_another_treatment_or_key_makes_another_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path, CONTRACT)
    world.put(ROW)
    assert world.take() == []
    assert world.leaks()
    world.write("p.yaml", TREATED)
    assert world.take() == []
    (first,) = world.rows()["email"]
    assert first != ROW["email"]

    key = tmp_path / ".noria" / personal_key.FILE
    assert key.stat().st_mode & 0o777 == 0o600
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(StoreError, match="the key of hashed personal data is gone"):
        world.take()
    assert execute(["-C", str(tmp_path), "check"]) == 1
    assert "the key of hashed personal data is gone" in capsys.readouterr().out
    key.write_bytes(kept[:5])
    with pytest.raises(StoreError, match="has 5 bytes, not 32"):
        world.take()
    key.write_bytes(os.urandom(32))
    assert world.take() == []
    (second,) = world.rows()["email"]
    assert first != second
    key.write_bytes(kept)
    assert world.take() == []
    assert world.rows()["email"].to_list() == [first]


def test_a_damaged_file_is_put_back_from_its_source(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put(ROW, OTHER)
    assert world.take() == []
    (pin,) = DataStore.of(world.context).accepted_files("p").values()
    blob = world.context.blobs.unverified_path(pin.digest)
    blob.chmod(0o600)
    blob.write_bytes(b"nothing")
    report = verification.verify(world.context)
    assert [one.cure for one in report.findings] == [verification.Repair.PUT_BACK]
    assert world.rows().height == 2
    assert world.leaks() == []


@pytest.mark.parametrize(
    ("contract", "why"),
    [
        ("personal_data: {hash: [email], drop: [email]}", "email is both hashed and dropped"),
        ("columns: {email: {values: [a, b]}}\npersonal_data: {hash: [email]}", "email is hashed before the file is judged"),
        ("columns: {email: {type: int}}\npersonal_data: {hash: [email]}", "email is hashed before the file is judged"),
        ("columns: {email: {nulls: never}}\npersonal_data: {drop: [email]}", "email is dropped before the file is judged"),
        ("unique: [email]\npersonal_data: {drop: [email]}", "email is dropped before the file is judged"),
        ("order: born\npersonal_data: {hash: [born]}", "born is hashed before the file is judged"),
    ],
)
def test_a_contract_cannot_ask_what_a_treated_column_cannot_tell(tmp_path: Path, contract: str, why: str) -> None:
    (tmp_path / "p.yaml").write_text(contract)
    with pytest.raises(ConfigError, match=why):
        config.load_contract(tmp_path / "p.yaml", shown="p.yaml")


@pytest.mark.parametrize(
    ("dataset", "model", "why"),
    [
        ("source: 's3://b/x/*.csv', pin: version", "", "needs the bytes of its objects unchanged"),
        ("sql: {url: 'sqlite:///x.db', query: select 1}", "", "which the database can do"),
        ("source: 'log:production'", "", "the prediction log is stored before"),
        ("source: data", "model: {rows: p, label: x, train: 'm:fit', inputs: [id, email]}", "would send it as it is"),
    ],
)
def test_where_columns_cannot_be_treated_the_project_says_so(tmp_path: Path, dataset: str, model: str, why: str) -> None:
    (tmp_path / "p.yaml").write_text(TREATED)
    (tmp_path / "m.py").write_text("def fit(x, y):\n    return None\n")
    environment = "environments: {production: {}}\n" if "log:" in dataset else ""
    (tmp_path / "noria.yaml").write_text(f"project: shop\n{environment}data: {{p: {{{dataset}, contract: p.yaml}}}}\n{model}\n")
    with pytest.raises(ConfigError, match=why):
        config.load(tmp_path)


def test_a_model_learns_from_no_hash_unless_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(TREATED)
    (tmp_path / "m.py").write_text("def fit(x, y):\n    return None\n")
    text = "project: shop\ndata: {p: {source: data, contract: p.yaml}}\nmodel: {rows: p, label: x, train: 'm:fit'}\n"
    (tmp_path / "noria.yaml").write_text(text)
    model = config.load(tmp_path).model
    assert model is not None
    assert model.inputs == ("id",)
    (tmp_path / "p.yaml").write_text("personal_data: {hash: [email]}\n")
    with pytest.raises(ConfigError, match="'inputs' is missing"):
        config.load(tmp_path)


def test_checks_judge_a_file_as_it_would_be_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(tmp_path)
    world.put(ROW, OTHER)
    (tmp_path / ".noria/personal.key").unlink(missing_ok=True)
    assert execute(["-C", str(tmp_path), "data", "check", "data/a.csv", "--contract", "p.yaml"]) == 0
    assert execute(["-C", str(tmp_path), "check"]) == 0
    assert "2 rows meet the contract" in capsys.readouterr().out
    assert execute(["-C", str(tmp_path), "data", "personal", "p"]) == 0
    assert "(the contract hashes or drops the column before it is stored)" in capsys.readouterr().out
    assert not (tmp_path / ".noria/personal.key").exists()

    world.write("data/b.csv", "id,mail\n1,jane.roe@mail.example\n")
    assert execute(["-C", str(tmp_path), "check"]) == 1
    assert "it has no columns email, card, full_name" in capsys.readouterr().out
    assert execute(["-C", str(tmp_path), "data", "check", "data/b.csv", "--contract", "p.yaml"]) == 1
    assert "it has no columns email, card, full_name" in capsys.readouterr().out


def test_an_erasure_leaves_no_hash_by_which_a_row_could_be_found(tmp_path: Path) -> None:
    world = World(tmp_path, CONTRACT)
    world.put(ROW)
    assert world.take() == []
    DataStore.of(world.context).head("p")
    looks = LookStore.of(world.context)
    looks.add("of before", HoldoutRows("a", 1, (1,)), 1.0)
    looks.add("now", HoldoutRows("b", 1, (2,), keyed=True), 2.0)
    TurnStore.of(world.context).update(TurnStore.of(world.context).list()[0].id, outcome=TurnOutcome.NOTHING_CHANGED)
    erasure.erase(world.context, "data/a.csv")
    assert looks.list() == [HoldoutRows("b", 1, (2,), keyed=True)]  # the budget does not begin again
    assert world.context.ledger.database.row("SELECT 1 FROM batch_facts") is None
    assert not [leak for leak in world.leaks() if "jane" in leak]
