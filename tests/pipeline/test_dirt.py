"""What makes a tree another one than its commit."""

from __future__ import annotations

import pytest

from noria.pipeline.judge_uncommitted import UncommittedChange, advice, that_count

READ = {"conf/rules.json", "contracts/rows.yaml", "sql"}


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("table.py", True),
        ("src/pkg/sub/module.py", True),
        ("native.cpython-312-x86_64-linux-gnu.so", True),
        ("conf/rules.json", True),  # a step reads it
        ("sql/deep/query.sql", True),
        ("contracts/rows.yaml", True),
        ("lib/", True),  # a repository inside
        ("train.log", False),
        ("noria-serve/releases/v1/code/model.py", False),  # no import can name that folder
        ("churn-v3.noria.tar", False),
        ("scores.parquet", False),
        ("notes.md", False),
        ("Untitled-1.ipynb", False),
        ("class/model.py", False),
        ("2024-try.py", False),
        ("venv/lib/python3.12/site-packages/six.py", False),
        ("env/bin/activate_this.py", False),
        ("conda/lib/thing.py", False),
    ],
)
def test_new_files_count_where_code_can_import_or_a_step_reads_them(path: str, counts: bool) -> None:
    """Number 12: outputs, logs and virtual environments never make a tree dirty."""
    marks = [
        UncommittedChange("env/pyvenv.cfg", False),
        UncommittedChange("venv/pyvenv.cfg", False),
        UncommittedChange("conda/conda-meta/history", False),
    ]
    found = that_count([UncommittedChange(path, False), *marks], READ)
    assert [change.path for change in found] == ([path] if counts else [])


@pytest.mark.parametrize("path", ["notes.md", "train.log", "venv/lib/x.txt"])
def test_a_changed_file_that_git_tracks_counts(path: str) -> None:
    """Number 12: what is in the commit is the commit's."""
    assert that_count([UncommittedChange(path, True), UncommittedChange("venv/pyvenv.cfg", False)], READ) == [
        UncommittedChange(path, True)
    ]


def test_the_advice_never_says_to_commit_a_log() -> None:
    """Number 12: a log that Git tracks is to be taken out of it."""
    log = advice([UncommittedChange("logs/train.log", True)])
    assert "git rm --cached logs/train.log" in log
    assert "commit" not in log
    assert "git restore" in advice([UncommittedChange("model.py", True)])
    assert "let Git ignore" in advice([UncommittedChange("model.py", True), UncommittedChange("new.py", False)])
    assert "git init" in advice([])
