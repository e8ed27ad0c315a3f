"""A command that ends leaves a ledger whose file alone is whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from noria.storage.ledger import Ledger

WORK = """
import sys, threading
from pathlib import Path
from noria import cli
from noria.storage.ledger import Ledger

ledger = Ledger.open(Path(sys.argv[1]))
ledger.projects.ensure("p", "home")
held, ended = threading.Event(), threading.Event()

def read():
    ledger.events.latest_seq()
    held.set()
    ended.wait()

threading.Thread(target=read, daemon=True).start()
held.wait()
ledger.events.append("p", "run.noted", "run-1", "a note")
cli.leave(0)
"""


def test_a_copy_of_the_file_is_whole_once_a_command_has_ended(tmp_path: Path) -> None:
    """`noria up` and `noria run` ended without closing the ledger: what they had written stood in the log beside it."""
    subprocess.run([sys.executable, "-c", WORK, str(tmp_path / "state")], check=True, timeout=100)
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "state/ledger.db", tmp_path / "copy/ledger.db")
    with closing(Ledger.open(tmp_path / "copy")) as copy:
        assert [event.subject for event in copy.events.newest("p")] == ["run-1"]
    assert not (tmp_path / "state/ledger.db-wal").exists()
