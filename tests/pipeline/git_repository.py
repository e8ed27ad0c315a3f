"""Git as a person calls it, for tests that need real repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path


def run(folder: Path, *arguments: str) -> str:
    """What `git ARGUMENTS` printed; it must end well."""
    identity = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *identity, "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, message: str) -> str:
    """A commit of all that is there; its id."""
    run(folder, "add", "-A")
    run(folder, "commit", "-q", "--allow-empty", "-m", message)
    return run(folder, "rev-parse", "HEAD")


def begin(folder: Path, **files: str) -> Path:
    """A repository with these files in its first commit; ``__`` in a name stands for '/', the last ``_`` for a dot."""
    folder.mkdir(parents=True)
    run(folder, "init", "-q")
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        path = folder / f"{stem.replace('__', '/')}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commit(folder, "first commit")
    return folder
