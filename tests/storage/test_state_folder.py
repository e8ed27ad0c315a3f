"""Where the state of a project is kept: one function reads NORIA_HOME, for every command."""

from __future__ import annotations

from pathlib import Path

import pytest

import noria
from noria.cli.context import Home
from noria.engine import assembly
from noria.kernel.errors import UsageError
from noria.storage.disk import state_folder


def test_a_tilde_names_one_folder_for_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NORIA_HOME", "~/n")
    home = tmp_path / "project"
    home.mkdir()
    (home / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(home)
    context = assembly.assemble(home)
    try:
        assert context.state == Home(home).state == tmp_path / "n"
    finally:
        context.executor.close()
        context.ledger.close()
    assert not (home / "~").exists()


def test_nothing_said_and_a_link_mean_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / ".noria").symlink_to(tmp_path / "disk")
    for said in ("", None):
        if said is None:
            monkeypatch.delenv("NORIA_HOME", raising=False)
        else:
            monkeypatch.setenv("NORIA_HOME", said)
        assert Home(tmp_path).state == state_folder(tmp_path) == tmp_path / "disk"


@pytest.mark.parametrize("said", ["~nobody-of-this-name/n", "a-file"])
def test_what_names_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    (tmp_path / "a-file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NORIA_HOME", said)
    with pytest.raises(UsageError) as told:
        state_folder(tmp_path)
    assert told.value.message.startswith(f"NORIA_HOME must name a folder, got '{said}'")


def test_one_place_reads_the_variable() -> None:
    source = Path(noria.__file__).parent
    readers = [file.name for file in source.rglob("*.py") if 'environ.get("NORIA_HOME")' in file.read_text()]
    assert readers == ["disk.py"]
    assert not [file for file in source.rglob("*.py") if 'environ["NORIA_HOME"]' in file.read_text()]
