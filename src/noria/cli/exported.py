"""What the commands share that take a release as an exported file: which file, and the keys that it must be signed with."""

from __future__ import annotations

from pathlib import Path

import click

from noria.kernel.errors import UsageError

SUFFIX = ".tar"
KEY_BYTES = 32


def find_export(name: str) -> Path | None:
    """The file of that name, looked for from where ``-C`` says; None when it is a release's version."""
    start = click.get_current_context().find_root().obj or Path(".")
    path = Path(start) / name
    return path if path.is_file() or name.endswith(SUFFIX) else None


def public_keys(*paths: Path) -> tuple[str, ...]:
    """The keys in these files, as hex; below its newest a signing.pub names older ones. Raises UsageError."""
    found: list[str] = []
    for path in paths:
        try:
            keys = path.read_text().lower().split()
            if not keys or any(len(bytes.fromhex(key)) != KEY_BYTES for key in keys):
                raise ValueError
        except (OSError, ValueError) as error:
            why = f"{path} cannot be read: {error.strerror}" if isinstance(error, OSError) else f"{path} holds no public key"
            raise UsageError(why, hint="It is .noria/signing.pub where the release was made.") from error
        found += keys
    return tuple(found)
