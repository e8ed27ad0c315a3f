"""Datasets, their snapshots, and what was refused."""

from __future__ import annotations

import msgspec


class FilePin(msgspec.Struct, frozen=True):
    """One file of a snapshot: its name within the dataset, and its content."""

    name: str  # relative to the project home, '/' separated
    digest: str
    size_bytes: int
    rows: int
    origin: str | None = None  # address and version of an immutable remote object that was pinned, not copied
    made_from: str | None = None  # digest of the file as it arrived, where rows of it were dropped

    @property
    def arrived_as(self) -> str:
        """The digest of the file as it arrived."""
        return self.made_from or self.digest


class Snapshot(msgspec.Struct, frozen=True):
    """A version of a dataset: an ordered manifest of accepted files. ``digest`` is of the manifest."""

    dataset: str
    digest: str
    files: tuple[FilePin, ...]

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.files)


class SnapshotFacts(msgspec.Struct, frozen=True):
    """A version of a dataset without its manifest."""

    dataset: str
    digest: str
    files: int
    rows: int
    size_bytes: int
    at: float  # seconds since 1970 when it was first recorded; 0 for a dataset without files, which is not


class SnapshotDifference(msgspec.Struct, frozen=True):
    """What lies between two versions, each in the order of names."""

    added: tuple[FilePin, ...]
    removed: tuple[FilePin, ...]
    changed: tuple[tuple[FilePin, FilePin], ...]  # before, after


class RefusalReason(msgspec.Struct, frozen=True):
    """A broken promise, and how many rows break it; None where it is not about single rows."""

    code: str
    text: str
    rows: int | None = None


class Delivery(msgspec.Struct, frozen=True):
    """One file as it arrived, judged once. rows_in == rows_passed + rows_quarantined, always.

    A file of which rows were dropped is accepted, with ``rows_quarantined`` above 0.
    """

    id: str
    dataset: str
    name: str
    digest: str
    rows_in: int
    rows_passed: int
    rows_quarantined: int
    accepted: bool
    reason: str  # one sentence
    failing_rows: int = 0  # rows that themselves break a rule
    sample_digest: str | None = None  # blob (Parquet) with all failing rows and a `noria_reason` column
    at: float = 0.0
    contract: str = ""  # digest of the contract that judged it, and of what noria.yaml says of its dataset
    example: str = ""  # a value for which it was refused, with its column and row; it stands in no event
    reasons: tuple[RefusalReason, ...] = ()
    kept_digest: str = ""  # of the file of good rows, where others were dropped

    @property
    def file_digest(self) -> str:
        """The digest of the file that stands in the dataset, if it was accepted."""
        return self.kept_digest or self.digest


class ErasedFile(msgspec.Struct, frozen=True):
    """A file whose bytes a person took away for good."""

    project: str
    digest: str
    dataset: str
    name: str
    actor: str
    at: float
