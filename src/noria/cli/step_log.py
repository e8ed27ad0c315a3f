"""How the log of a step ends: what a command says of a step that failed."""

from __future__ import annotations

from collections.abc import Iterable

from noria.kernel.errors import NoriaError
from noria.pipeline.run import StepRecord, StepState
from noria.storage.blobs import BlobStore

TAIL = {StepState.RAN: 3, StepState.FAILED: 20}  # lines of a step's log that the story ends with
TAIL_BYTES = 8192


def failed_log(blobs: BlobStore, steps: Iterable[StepRecord]) -> tuple[str, str] | None:
    """The step that failed, and how its log ends; None where none did, or it said nothing."""
    failed = next((step for step in steps if step.state is StepState.FAILED), None)
    text = log_tail(blobs, failed) if failed is not None else ""
    return (failed.name, text) if failed is not None and text else None


def log_tail(blobs: BlobStore, record: StepRecord) -> str:
    """The last lines of a step's log; more of one that failed, none of one that did not run."""
    lines = TAIL.get(record.state, 0)
    if not lines or record.log is None:
        return ""
    try:
        with blobs.path(record.log).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            found = file.read().decode(errors="replace").rstrip().splitlines()
    except NoriaError as error:
        return f"(the log cannot be shown: {error.message})"
    return "\n".join(found[-lines:])
