"""Scoring: a release's answers for the rows of files, in bounded memory, continuing where an interrupted job stopped.

The answers are those that ``POST /predict`` gives, in a file: each row once, in order, with the input's columns beside them. The
output appears only when it is complete. Rows that the signature does not take, or that the model cannot answer, go to
``OUTPUT.rejected.jsonl`` with the reasons. Nothing is written to the prediction log.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace

from noria import config
from noria.config import Project
from noria.data import formats, versions
from noria.data.sources.pattern import split
from noria.data.store import DataStore
from noria.delivery.batch import parts, rows
from noria.delivery.batch.parts import DONE, KEY, BatchParts
from noria.delivery.batch.rows import InputFile, RefusedRow, RowChunk
from noria.delivery.context import DeliveryContext
from noria.delivery.standalone import Lay, UnpackedRelease
from noria.kernel import names
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.errors import DataError, NoriaError, NotFoundError, RefusedError, UsageError
from noria.kernel.interrupts import held_interrupts
from noria.kernel.task_definition import Output
from noria.kernel.words import duration, plural
from noria.models import judge_decision
from noria.models.signature import Signature
from noria.releases import dataset_versions, signing
from noria.releases.bundle import open_bundle
from noria.serving import batch, protocol
from noria.serving.batch import Answers, Scorer
from noria.storage.context import Progress, silent
from noria.storage.disk import full_disk, sync_path, write_whole

BATCH_ROWS = 10_000
PART_ROWS = 100_000  # rows that are written down together ...
PART_S = 5.0  # ... or as many as came in this time
TOLD_S = 5.0  # between two words about how far it is


class BatchOrder(msgspec.Struct, frozen=True):
    """``columns``: those of the input that stay in the output, all when None. ``strict``: the first row without an answer ends
    the job. ``restart``: nothing of an earlier job is used, and the output may be replaced."""

    sources: tuple[InputFile, ...]
    output: Path
    columns: tuple[str, ...] | None = None
    strict: bool = False
    restart: bool = False
    batch_rows: int = BATCH_ROWS
    part_rows: int = PART_ROWS


class BatchResult(msgspec.Struct, frozen=True):
    """The result. ``resumed``: rows that an earlier, interrupted job had scored."""

    output: str
    release: str
    digest: str
    rows: int  # with an answer
    rejected: int
    rejected_file: str | None
    resumed: int
    seconds: float
    rows_per_s: float


def score(order: BatchOrder, lay: Lay, progress: Progress = silent) -> BatchResult:
    """Runs the job, or the rest of it.

    Raises UsageError, RefusedError when the output exists or another process writes it, DataError, ServingError, DiskFullError.
    """
    parts.kind_of(order.output)
    target = order.output.resolve()
    if not target.parent.is_dir():
        raise NotFoundError(f"there is no folder {target.parent}", where=str(order.output))
    if target in {source.path.resolve() for source in order.sources}:
        raise UsageError(f"{order.output} is an input itself", hint="Name another file with --output.")
    if target.is_dir():
        raise UsageError(f"{order.output} is a folder", hint="Name a file with --output.")
    folder = target.with_name(f".{target.name}.scoring")
    with full_disk(target.parent):
        folder.mkdir(exist_ok=True, mode=0o700)
        with _sole(folder, order.output):
            try:
                return _score_locked(order, target, folder, lay, progress)
            except NoriaError:
                if not parts.any_in(folder):  # nothing that a second try could go on with
                    shutil.rmtree(folder, ignore_errors=True)
                raise


def _score_locked(order: BatchOrder, target: Path, folder: Path, lay: Lay, progress: Progress) -> BatchResult:
    taken = target.exists() and not order.restart
    refusal = RefusedError(f"{order.output} exists already", hint="Name another file, or replace it with --restart.")
    if order.restart:
        parts.clear(folder)
    elif taken and not (folder / KEY).exists():
        raise refusal
    begun = time.monotonic()
    marks = [_mark(source) for source in order.sources]
    sources = [replace(s, digest=s.digest or names.digest_file(s.path)) for s in order.sources]
    laid = lay(folder)
    key = _key(order, sources, laid)
    if taken and not parts.has_job(folder, key):
        raise refusal
    write_whole(folder / signing.PUBLIC, f"{laid.sealed_with}\n".encode())
    held = BatchParts(folder, key)
    resumed = held.rows + held.refused
    if not _has_ended(target, folder):
        with closing(_Job(order, sources, laid, held, progress)) as job:
            job.run(folder)
        if [_mark(source) for source in order.sources] != marks:
            raise DataError("an input changed while it was read", hint="Run it again.")
        progress(f"joining {plural(held.rows, 'row')}")
        _finish(target, folder, held, laid.signature)
    shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - begun
    return BatchResult(
        str(order.output),
        laid.release.version,
        laid.release.digest,
        held.rows,
        held.refused,
        str(_aside(order.output)) if held.refused else None,
        resumed,
        round(seconds, 3),
        round((held.rows + held.refused - resumed) / max(seconds, 1e-9), 1),
    )


def _key(order: BatchOrder, sources: Sequence[InputFile], laid: UnpackedRelease) -> dict[str, Any]:
    columns = None if order.columns is None else list(order.columns)
    inputs = [[source.name, source.kind, source.digest] for source in sources]
    return {"format": 1, "inputs": inputs, "release": laid.release.digest, "version": laid.release.version, "columns": columns}


def _aside(output: Path) -> Path:
    return output.with_name(f"{output.name}.rejected.jsonl")


def _has_ended(target: Path, folder: Path) -> bool:
    """Whether the job was killed after its output appeared, and before its folder went."""
    try:
        return (folder / DONE).read_text() == names.digest_file(target)
    except FileNotFoundError:
        return False


def _finish(target: Path, folder: Path, held: BatchParts, signature: Signature) -> None:
    """One file, on disk, then its name."""
    aside = _aside(target)
    joined, refused = folder / f"{target.name}.joined", folder / "rejected.joined"
    nothing = _outputs(signature, np.empty((0, signature.width)))
    held.join(joined, [*nothing.columns, "release"])
    held.write_rejected(refused)
    write_whole(folder / DONE, names.digest_file(joined).encode())
    if held.refused:
        refused.replace(aside)
    else:
        aside.unlink(missing_ok=True)
    joined.replace(target)
    sync_path(target.parent)


@contextmanager
def _sole(folder: Path, output: Path) -> Iterator[None]:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(f"another process is writing {output}", hint="Wait for it, or name another file.") from None
        yield
    finally:
        os.close(handle)


class _Pending(msgspec.Struct):
    """What is not on disk yet."""

    file: int = 0
    end: int = 0
    since: float = msgspec.field(default_factory=time.monotonic)
    tables: list[pl.DataFrame] = []
    refused: list[dict[str, Any]] = []

    @property
    def rows(self) -> int:
        return sum(table.height for table in self.tables)


class _Job:
    """The loop over the rows."""

    def __init__(
        self, order: BatchOrder, sources: Sequence[InputFile], laid: UnpackedRelease, held: BatchParts, progress: Progress
    ) -> None:
        self._resumed = held.rows + held.refused
        self._order, self._sources, self._laid, self._held = order, sources, laid, held
        self._scorer: Scorer | None = None
        self._pending = _Pending()
        self._progress = progress
        self._begun = self._told = time.monotonic()
        self._total: int | None = None
        if self._resumed:
            progress(f"continuing after {plural(self._resumed, 'row')}")

    def run(self, folder: Path) -> None:
        """Score what is not in the parts yet."""
        first = self._held.done[-1].file if self._held.done else 0
        counts = [rows.count(source) for source in self._sources]
        self._total = None if None in counts else sum(c or 0 for c in counts)
        for file, source in enumerate(self._sources):
            if file >= first:
                start = self._held.done[-1].end if self._held.done and file == first else 0
                self._file(folder, file, source, start)
        self._flush()
        if not self._held.done:
            self._add_empty_table()

    def close(self) -> None:
        if self._scorer is not None:
            self._scorer.close()

    def _file(self, folder: Path, file: int, source: InputFile, start: int) -> None:
        signature, size = self._laid.signature, self._order.batch_rows
        for chunk in rows.chunks(source, signature, start, size, self._order.columns):
            if self._scorer is None:
                bundle = open_bundle(folder / "releases" / self._laid.release.digest, signing.known_keys(folder))
                self._scorer = batch.open_scorer(bundle, folder, size)
            self._take(file, source, chunk)

    def _take(self, file: int, source: InputFile, chunk: RowChunk) -> None:
        assert self._scorer is not None
        with held_interrupts():
            answers, failures = batch.score_rows(self._scorer, chunk.inputs)
        refused = list(chunk.refused)
        table, numbers = chunk.table, chunk.numbers
        if failures:
            records = (table.row(p, named=True) for p in failures)
            refused += [RefusedRow(numbers[p], failures[p], r) for p, r in zip(failures, records, strict=True)]
            table = table[[p for p in range(table.height) if p not in failures]]
        if refused and self._order.strict:
            one = min(refused, key=lambda r: r.row)
            hint = "Without --strict, such rows go to a separate file."
            raise DataError(f"row {one.row:,}: {one.reason}", where=source.name, hint=hint)
        pending = self._pending
        pending.file, pending.end = file, chunk.end
        pending.tables.append(self._add_answers(source, table, answers))
        pending.refused += [_refusal(source, one) for one in sorted(refused, key=lambda r: r.row)]
        if pending.rows >= self._order.part_rows or time.monotonic() - pending.since > PART_S:
            self._flush()
        self._tell()

    def _add_answers(self, source: InputFile, table: pl.DataFrame, answers: Answers) -> pl.DataFrame:
        if self._order.columns is not None:
            table = table.select(self._order.columns)
        made = _outputs(self._laid.signature, answers)
        made = made.with_columns(pl.lit(self._laid.release.version).alias("release"))
        both = [name for name in table.columns if name in made.columns]
        if both:
            hint = "Leave it out with --columns, which names the columns to keep."
            raise DataError(f"has a column {both[0]!r} itself, as the answers do", where=source.name, hint=hint)
        return table.hstack(made) if table.width else made

    def _flush(self) -> None:
        pending, self._pending = self._pending, _Pending()
        if pending.tables:
            self._held.add(pending.file, pending.end, pending.tables, pending.refused)

    def _add_empty_table(self) -> None:
        """When no file has a row, the output still gets its columns."""
        empty = pl.DataFrame(schema=dict.fromkeys(self._order.columns or (), pl.String()))
        answers = np.empty((0, self._laid.signature.width))
        self._held.add(0, 0, [self._add_answers(self._sources[0], empty, answers)], [])

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < TOLD_S:
            return
        self._told = now
        done = self._held.rows + self._held.refused + self._pending.rows + len(self._pending.refused)
        speed = (done - self._resumed) / (now - self._begun)
        text = f"{plural(done, 'row')}, {speed:,.0f} rows/s"
        if self._total:
            left = max(0, self._total - done) / max(speed, 1e-9)
            text = f"{done:,} of about {plural(self._total, 'row')}, {speed:,.0f} rows/s, {duration(left)} to go"
        self._progress(text)


def _refusal(source: InputFile, one: RefusedRow) -> dict[str, Any]:
    record = json.loads(json.dumps(one.record, default=str))
    return {"file": source.name, "row": one.row, "reason": one.reason, "record": record}


def _outputs(signature: Signature, answers: Answers) -> pl.DataFrame:
    """The columns of the answers, as ``protocol.outputs`` names and decides them row by row."""
    return pl.DataFrame({name: _column(signature, output, answers) for name, output in signature.task.definition.outputs.items()})


def _column(signature: Signature, output: Output, answers: Answers) -> pl.Series:
    if output is Output.VALUE:
        return pl.Series(answers.reshape(-1))
    answers = answers.reshape(-1, signature.width)
    if output is Output.SECOND:
        return pl.Series(np.ascontiguousarray(answers[:, 1]))
    if output is Output.EACH:
        each = pl.DataFrame({name: np.ascontiguousarray(answers[:, i]) for i, name in enumerate(signature.classes)})
        return each.to_struct()
    labels = protocol.labels_of(signature)
    texts = any(isinstance(label, str) for label in labels)
    named = np.array([str(label) for label in labels] if texts else labels, dtype=object if texts else np.int64)
    kind = pl.String() if texts else pl.Int64()
    places = (
        answers[:, -1].astype(np.intp) if signature.says_class else judge_decision.decided_classes(signature.decision, answers)
    )
    return pl.Series(named[places], dtype=kind)


def _mark(source: InputFile) -> tuple[int, int]:
    try:
        found = source.path.stat()
    except OSError as error:
        raise NotFoundError(f"cannot be read: {error.strerror}", where=source.name) from error
    return found.st_size, found.st_mtime_ns


# --- what is to be scored


def files(pattern: str, known: Dialect | None = None) -> tuple[InputFile, ...]:
    """The file of that name, or those that a pattern fits, in the order of their names; none where nothing fits.

    ``known``: how the project's own text files are written; one that looks otherwise is read as it looks. Raises DataError for
    one that is no table.
    """
    path = Path(pattern)
    if path.is_dir():
        raise UsageError(f"{pattern} is a folder", hint=f"Name its files with a pattern: '{pattern}/*.parquet'")
    found = [path] if path.is_file() else sorted(_glob(pattern))
    return tuple(InputFile(str(one), one, kind := rows.kind_of(one.name), "", _file_dialect(one, kind, known)) for one in found)


def project_dialect(project: Project) -> Dialect | None:
    """How the project's own text files are written, where it says so in one way."""
    said = {source.csv for source in project.data.values() if source.csv != PLAIN}
    return said.pop() if len(said) == 1 else None


def _file_dialect(path: Path, kind: str, known: Dialect | None) -> Dialect | None:
    if known is None or kind not in ("csv", "tsv"):
        return None
    looks = formats.as_it_looks(path)
    alike = (looks.separator, looks.encoding) == (known.separator, known.encoding)
    return known if alike else replace(looks, nulls=known.nulls)


def _glob(pattern: str) -> list[Path]:
    base, parts = split(".", pattern)
    return [one for one in Path(base).glob("/".join(parts)) if one.is_file()] if parts else []


def dataset(context: DeliveryContext, reference: str) -> tuple[InputFile, ...]:
    """The accepted files of a dataset, now or as a release used them (``flights@v3``).

    Raises NotFoundError, RefusedError when files of it are gone or were erased.
    """
    facts = dataset_versions.find(context.ledger, context.name, reference)
    versions.whole(context, facts)
    pins = sorted(DataStore.of(context).files_of(facts.digest), key=lambda pin: pin.name)
    named = [(pin, context.named_blob(pin.digest, pin.name)) for pin in pins]
    known = config.load(context.home).data.get(facts.dataset)
    dialect = known.csv if known is not None else None
    return tuple(
        InputFile(f"{facts.dataset}:{pin.name}", path, rows.kind_of(pin.name), pin.digest, dialect) for pin, path in named
    )
