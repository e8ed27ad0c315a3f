"""What is deployed with: the container's command line in a bare environment, its health check, and the units of systemd."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serving_alone import exported
from serving_bundles import Seal, compiled

ROOT = Path(__file__).parents[2]
NORIA = Path(sys.executable).with_name("noria")
KEYS = "shop:9nXv0cQmC2yT3eBzZr5dKk\n"


def _instruction(name: str) -> list[str]:
    """The JSON form of an instruction of the last stage."""
    text = (ROOT / "Containerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    found = re.search(rf"^{name} .*?(\[.*\])$", text, re.MULTILINE)
    assert found is not None
    words: list[str] = json.loads(found[1])
    return words


def test_the_containers_command_serves_in_a_bare_environment_and_is_healthy(seal: Seal, tmp_path: Path) -> None:
    exported(seal, compiled(seal, tmp_path / "scratch"), tmp_path / "release.noria")
    (tmp_path / "keys").write_text(KEYS)
    places = {"/release.noria": tmp_path / "release.noria", "/run/keys": tmp_path / "keys", "/state": tmp_path / "log"}
    command = [str(places.get(word, word)) for word in (*_instruction("ENTRYPOINT"), *_instruction("CMD"))]
    bare = {"PATH": os.fspath(NORIA.parent)}
    command = [os.fspath(NORIA), *command[1:], "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=bare, cwd="/", text=True)
    try:
        assert process.stdout is not None
        address = next(found for line in process.stdout if (found := re.search(r"http://0\.0\.0\.0:(\d+)", line)))
        check = [word.replace(":8000/", f":{address[1]}/") for word in _instruction("HEALTHCHECK")]
        assert subprocess.run(check, env=bare, check=False).returncode == 0
        process.terminate()
        assert process.wait(15) == 0
        assert subprocess.run(check, env=bare, check=False, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        process.kill()
        process.communicate()
    assert list((tmp_path / "log" / "log" / "production").glob("*.plog"))


def test_the_image_is_built_from_what_is_there() -> None:
    text = (ROOT / "Containerfile").read_text()
    for name in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / part).exists() for part in name.split())
        ignored = (ROOT / ".containerignore").read_text().split()
        assert all(f"!{part}" in ignored for part in name.split())
    pattern = re.search(r"sed -n '(.*)' requirements/lock.txt", text)
    assert pattern is not None
    lock = ROOT / "requirements" / "lock.txt"
    found = subprocess.run(["sed", "-n", pattern[1], lock], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(found) == len(re.findall(r"^[A-Za-z0-9].*==", lock.read_text(), re.MULTILINE))
    assert re.search(r"^USER (?!0$|root$)", text, re.MULTILINE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", ["noria.service", "noria-serve.service"])
def test_systemd_understands_the_units(unit: str, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / unit).read_text()
    (tmp_path / unit).write_text(text.replace("/opt/noria/bin/noria", os.fspath(NORIA)))
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    _parses(command.split()[1:])


@pytest.mark.parametrize("unit", ["noria.service", "noria-serve.service"])
def test_a_unit_outlives_what_the_kernel_ends_for_want_of_memory(unit: str) -> None:
    """Number 35: a step that took too much ends alone; systemd's default would end daemon and server with it."""
    given = dict(
        line.split("=", 1) for line in (ROOT / "deploy" / unit).read_text().splitlines() if "=" in line and line[0] != "#"
    )
    assert given["OOMPolicy"] == "continue"
    assert given["Restart"] == "on-failure"
    assert int(given["LimitNOFILE"]) >= 65536


def _parses(arguments: list[str]) -> None:
    """Every option of a command line is one that Noria has."""
    helped = subprocess.run([NORIA, arguments[0], "--help"], capture_output=True, text=True, check=True).stdout
    options: list[Any] = [word for word in arguments if word.startswith("--")]
    assert [word for word in options if word not in helped] == []
