"""Where the state of a project is kept: one function reads NORIA_HOME, for every command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import noria
from noria.cli import execute
from noria.cli.context import Home
from noria.engine import assembly
from noria.kernel.errors import UsageError
from noria.pipeline.executors.local import child_environment
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


def project(folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "noria.yaml").write_text("project: p\nchecks: {code: 'cd src && echo $NORIA_HOME'}\n")
    return folder


def test_a_relative_one_is_the_same_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = project(tmp_path / "project")
    for cwd, start in ((home, "."), (home / "src", "."), (tmp_path, "project")):
        monkeypatch.setenv("NORIA_HOME", "kept")
        monkeypatch.chdir(cwd)
        assert Home.find(Path(start)).state == home / "kept"
        assert os.environ["NORIA_HOME"] == str(home / "kept")  # for what it starts
        monkeypatch.setenv("NORIA_HOME", "kept")
        execute(["-C", start, "check", "--json"])
        assert f"{home / 'kept'}" in capsys.readouterr().out  # what the project's own tests see, in a folder of theirs
        monkeypatch.setenv("NORIA_HOME", "kept")
        context = assembly.assemble(home)
        context.executor.close()
        context.ledger.close()
        assert child_environment()["NORIA_HOME"] == str(context.state) == str(home / "kept")
    assert [path.parent for path in tmp_path.rglob("ledger.db")] == [home / "kept"]


def test_one_that_an_earlier_version_kept_where_it_was_called_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = project(tmp_path / "project")
    for name in ("kept", ".noria"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ledger.db").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NORIA_HOME", "kept")
    assert Home.find(Path("project")).state == tmp_path / "kept"
    monkeypatch.delenv("NORIA_HOME")
    assert Home.find(Path("project")).state == home / ".noria"  # of a project that is called from another's folder


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
