"""Help is there for every command of the tree, wherever one stands: in a folder without any project too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from noria.cli import execute, group


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and group below, and its own."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1] if path else "noria")
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, (*path, name)
            yield from commands(child, (*path, name))


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    every = list(commands(group))
    assert {(), ("status",), ("rollout", "hold"), ("rollout", "simulate"), ("data", "verify")} <= set(every)
    failed = {}
    for path in every:
        code = execute([*path, option])
        printed = capsys.readouterr()
        if code != 0 or not printed.out.startswith(" ".join(("Usage: noria", *path))) or printed.err:
            failed[path] = (code, printed.err)
    assert failed == {}
    assert list(tmp_path.iterdir()) == []
