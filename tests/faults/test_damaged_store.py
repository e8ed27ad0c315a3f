"""Bytes that flip in the ledger are told in words, and folders that somebody tidied away are made again."""

from __future__ import annotations

import json
import random
import re
import shutil
import stat
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from noria import cli
from noria.data.holding_store import HoldingStore
from noria.data.snapshot import Delivery, FilePin
from noria.data.store import DataStore
from noria.data.table_store import TableStore
from noria.delivery.rollout_store import RolloutStore
from noria.delivery.shadow_evidence import ShadowEvidence
from noria.kernel.errors import NotFoundError, StoreError
from noria.kernel.names import digest_bytes
from noria.pipeline.run_store import RunStore
from noria.pipeline.turn_store import TurnStore
from noria.predictions.damage import tell_damage
from noria.predictions.segments import MAGIC
from noria.releases.release import ServedForm
from noria.releases.store import ReleaseStore
from noria.serving.route import Route
from noria.serving.route_store import RouteStore
from noria.storage.blobs import BlobStore
from noria.storage.clock import ClockStore
from noria.storage.context import silent
from noria.storage.ledger import Ledger
from noria.storage.listed_archive import ByteSource, ExportFile, ExportMeter, write
from noria.trust import audit

FLIPS = 150


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a ledger that has a bit of everything."""
    state = tmp_path_factory.mktemp("ledger")
    with closing(Ledger.open(state)) as ledger:
        ledger.projects.ensure("p", str(state))
        for number in range(20):
            digest = digest_bytes(bytes([number]))
            ReleaseStore(ledger, "p").seal(digest, f"run-{number}", None, ServedForm.COMPILED, "c", {"roc_auc": 0.5}, digest)
            ledger.events.append("p", "release.sealed", f"v{number + 1}", "sealed", {"digest": digest, "run": f"run-{number}"})
            RouteStore(ledger, "p").put(Route("p", "production", 0, digest, f"v{number + 1}"))
            pin = FilePin(f"data/{number}.csv", digest, 10, 10)
            delivery = Delivery(f"delivery-{number}", "points", pin.name, digest, 10, 10, 0, True, "10 rows meet the contract")
            DataStore(ledger, "p").deliver(delivery, pin)
        DataStore(ledger, "p").head("points")
        ledger.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    return (state / "ledger.db").read_bytes()


def names_of_columns(content: bytes) -> list[int]:
    """Where the words of the tables' definitions stand."""
    return [at for found in re.finditer(rb"CREATE TABLE .*?\)\n?\x00?", content, re.DOTALL) for at in range(*found.span())]


@pytest.mark.parametrize("seed", [54, 55])
def test_a_flipped_byte_in_the_ledger_is_told_in_words(content: bytes, tmp_path: Path, seed: int) -> None:
    """Number 54: it ended in "an internal error in Noria". What reads the ledger gets what is there, or a sentence."""
    full = [at for at in range(100, len(content)) if content[at]] if seed == 54 else names_of_columns(content)
    chance = random.Random(seed)
    told, file = set(), tmp_path / "ledger.db"
    for _ in range(FLIPS):
        spoilt = bytearray(content)
        spoilt[chance.choice(full)] ^= 1 << chance.randrange(8)
        for old in tmp_path.glob("ledger.db-*"):
            old.unlink()
        file.write_bytes(spoilt)
        try:
            with closing(Ledger.open(tmp_path)) as ledger:
                read_all_of(ledger, tmp_path)
        except StoreError as error:
            told.add(error.message.partition(":")[0])
        except NotFoundError:
            told.add("gone")  # the row of which the name was hit is another one's now
    assert "the ledger is damaged" in told


def test_commands_tell_of_a_flipped_byte_with_an_exit_code(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 54: each command works, or says what is damaged and ends with a code; none leaves a traceback."""
    (tmp_path / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(tmp_path)
    state, chance = tmp_path / ".noria", random.Random(56)
    state.mkdir()
    anywhere, names = [at for at in range(100, len(content)) if content[at]], names_of_columns(content)
    commands = (["status"], ["releases"], ["audit", "verify"], ["data", "log"], ["gc"], ["doctor"])
    codes = set()
    for number in range(60):
        spoilt = bytearray(content)
        spoilt[chance.choice(names if number % 2 else anywhere)] ^= 1 << chance.randrange(8)
        for old in state.glob("ledger.db-*"):
            old.unlink()
        (state / "ledger.db").write_bytes(spoilt)
        codes |= {int(cli.execute(command)) for command in commands}
        assert "internal error" not in capsys.readouterr().err
    assert codes <= {0, 1, 4}
    assert not (state / "crashes").exists()


def read_all_of(ledger: Ledger, state: Path) -> None:
    audit.verify(ledger, state)
    DataStore(ledger, "p").deliveries()
    DataStore(ledger, "p").head("points")
    for facts in HoldingStore(ledger, "p").snapshots():
        DataStore(ledger, "p").snapshot(facts.digest)
    list(HoldingStore(ledger, "p").contents([facts.digest for facts in HoldingStore(ledger, "p").snapshots()]))
    TableStore(ledger, "p").get("points")
    ledger.events.newest("p")
    TurnStore(ledger, "p").list(10)
    RunStore(ledger, "p").list(10)
    ReleaseStore(ledger, "p").list()
    RolloutStore(ledger, "p").list()
    RouteStore(ledger, "p").all()
    ledger.projects.list()
    ClockStore(ledger, "p").now()


def test_folders_of_the_blob_store_that_were_tidied_away_are_made_again(tmp_path: Path) -> None:
    """Number 54: a daemon that had kept a file before could keep none any more."""
    blobs = BlobStore(tmp_path / "blobs")
    first = blobs.put_bytes(b"one")
    for folder in list((tmp_path / "blobs").iterdir()):
        if folder.is_dir():
            shutil.rmtree(folder)
    assert blobs.read(blobs.put_bytes(b"one")) == b"one"
    assert blobs.put_bytes(b"one") == first
    (tmp_path / "file").write_bytes(b"two" * 1_000_000)
    assert blobs.put_file(tmp_path / "file") == digest_bytes(b"two" * 1_000_000)


def test_the_doctor_tells_of_damage_in_the_prediction_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 51: whoever reads the log counts what cannot be read; the doctor knows of it without reading it again."""
    (tmp_path / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(tmp_path)
    with closing(Ledger.open(tmp_path / ".noria")) as ledger:
        for segment in ("a", "b", "b"):
            ledger.events.append("p", "log.damaged", f"production/{segment}", f"of {segment} 1 place (9 bytes) cannot be read")
    cli.execute(["doctor", "--json"])
    (found,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "prediction log"]
    assert (found["state"], found["text"]) == ("warn", "of b 1 place (9 bytes) cannot be read (and 1 more)")


def test_damage_of_the_shadow_log_is_told_apart_from_that_of_the_prediction_log(tmp_path: Path) -> None:
    """Number 51: whoever gathers a rollout's evidence counts what cannot be read, of either log, and says so once."""
    with closing(Ledger.open(tmp_path)) as ledger:
        context = SimpleNamespace(name="p", ledger=ledger)
        context.event = lambda kind, subject, text, **facts: ledger.events.append("p", kind, subject, text, facts)
        for folder in ("log", "shadow"):
            (tmp_path / folder).mkdir()
            segment = tmp_path / folder / "w0.plog"
            segment.write_bytes(MAGIC + b"\x05\0\0\0\x01\x02\x03\x04spoilt")
            segment.chmod(0o400)
        book = ShadowEvidence(tmp_path / "log", tmp_path / "shadow", "r", "p", "v2")
        for _ in range(2):
            assert book.poll()
            for damage, shadow in zip(book.damage(), (False, True), strict=True):
                tell_damage(context, "production", damage, book.told, shadow=shadow)  # type: ignore[arg-type]
        told = {event.subject: event.text for event in ledger.events.tail(kinds=["log.damaged"])}
    assert told.keys() == {"production/w0", "production/shadow/w0"}
    assert told["production/shadow/w0"].startswith("production's shadow log: 1 damaged place (14 bytes)")


def test_a_clock_that_jumped_collects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Number 50: `noria gc` deletes by age, too; one start with the clock 400 days ahead made everything old."""
    (tmp_path / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(tmp_path)
    with closing(Ledger.open(tmp_path / ".noria")) as ledger:
        ledger.projects.ensure("p", str(tmp_path))
        ledger.events.append("p", "turn.started", "turn-1", "a turn began")
    journal = tmp_path / ".noria/search/x.journal"
    journal.parent.mkdir(parents=True)
    journal.write_text("asked and told")
    assert cli.execute(["gc"]) == 0
    assert "nothing to delete" in capsys.readouterr().out
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 400 * 86_400)
    assert cli.execute(["gc"]) == 0
    assert "It would be refused because nothing was recorded between" in capsys.readouterr().out
    assert cli.execute(["gc", "--yes"]) != 0
    said = capsys.readouterr().err
    assert "nothing was deleted by age, because nothing was recorded between" in said
    assert "`noria gc --yes --trust-clock` deletes now" in said
    assert journal.exists()
    assert cli.execute(["gc", "--yes", "--trust-clock"]) == 0
    assert not journal.exists()


def test_an_export_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """Number 54: an export holds rows of data."""
    source = ByteSource(ExportFile(digest_bytes(b"rows"), 4), b"rows")
    write(tmp_path / "data.tar", {}, {"blobs/x": source}, ExportMeter("writing", 4, silent))
    assert stat.S_IMODE((tmp_path / "data.tar").stat().st_mode) == 0o600
