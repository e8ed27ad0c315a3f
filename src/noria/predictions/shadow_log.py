"""The shadow log, kept: segments that no rollout needs any more are removed. How it is written: `serving.shadow`."""

from __future__ import annotations

from pathlib import Path

from noria.predictions.segments import WRITABLE, recover


def shadow_folder(state: Path, environment: str) -> Path:
    """``.noria/shadow/production``."""
    return state / "shadow" / environment


def tidy(folder: Path, older_than: float) -> int:
    """Remove finished segments that were last written before a wall time; how many. What a worker writes to now stays.

    A segment whose writer died counts as finished.
    """
    recover(folder)
    gone = 0
    for path in folder.glob("*.plog"):
        try:
            about = path.stat()
            if not about.st_mode & WRITABLE and about.st_mtime < older_than:
                path.unlink()
                gone += 1
        except FileNotFoundError:  # somebody else tidies
            continue
    return gone
