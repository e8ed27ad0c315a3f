"""Folders that cannot be written: what would write says so in words, what only reads works, a read-only backup included."""

import json
import sys

import pytest

YAML = """
project: backup
data: {rows: {source: "data/*.csv", settle: 50ms}}
steps: {one: {cmd: "cat word.txt > out.txt", deps: [word.txt], outs: [out.txt]}}
"""
MOUNT = 'mount --bind . . && mount -o remount,ro,bind . && cd "$PWD" && exec "$@"'
EACH = """
import contextlib, io, json, sys
from noria.cli import execute
found = {}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        code = execute(command.split())
    found[command] = (code, said.getvalue())
print(json.dumps(found))
"""


def walk(case):
    if case.run("unshare", "-rm", "true", code=None):
        pytest.skip("this machine lets nobody mount a folder read-only")

    def read_only(*commands):
        words = ("sh", "-c", MOUNT, "sh", sys.executable, "-c", EACH, json.dumps(commands))
        return json.loads(case.run("unshare", "-rm", *words).splitlines()[-1])

    case.write("v6.noria.tar", "")
    for code, said in read_only("serve v6.noria.tar", "init x").values():
        assert code == 4
        assert "cannot be written: Read-only file system" in said
    case.write("noria.yaml", YAML)
    case.write("data/a.csv", "a\n1\n")
    case.write("word.txt", "a\n")
    case.write(".gitignore", "/data/\n/out.txt\n")
    case.commit()
    (refused,) = read_only("run").values()
    assert "cannot be written: Read-only file system" in refused[1]
    case.noria("run")
    due = {
        "status": (0, "1 step ran"),
        "releases": (0, "no release"),
        "runs": (0, "1 step ran"),
        "show 1": (0, "1 step ran"),
        "audit verify": (0, "the chain holds"),
        "audit log": (0, "turn 1 done"),
        "data log": (0, "rows"),
        "data verify": (0, "nothing is damaged"),
        "doctor": (1, "cannot be written"),
        "run": (4, "the state folder cannot be written"),
    }
    for command, (code, said) in read_only(*due).items():
        assert (code, due[command][1] in said) == (due[command][0], True), (command, code, said)
