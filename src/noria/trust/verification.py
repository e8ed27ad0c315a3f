"""Verification: every blob that something needs is read. A damaged one is named with all who need it, put aside, and put back
where its bytes are still to be found; what a step can make again is forgotten, so that the next run makes it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

import msgspec

from noria import config
from noria.data import arrivals, personal_columns, personal_key, served_predictions
from noria.data.versions import BLOBS
from noria.delivery.context import DeliveryContext
from noria.kernel import names
from noria.kernel.errors import CorruptBlobError, DataError, NoriaError, NotFoundError, StoreError
from noria.kernel.words import size
from noria.pipeline import environment
from noria.pipeline.executors.task import cores
from noria.releases.bundle import read_manifest, stored_bundle
from noria.releases.store import ReleaseStore
from noria.trust.judge_retention import BlobKind
from noria.trust.references import References, Uses, gather, uses

DAMAGED_FOLDER = "damaged"
AT_ONCE = 10_000  # blobs that are read between two looks at the clock
TOLD_S = 5.0


class DamageState(StrEnum):
    DAMAGED = "damaged"  # its bytes do not match its digest
    MISSING = "missing"  # no file


class Repair(StrEnum):
    PUT_BACK = "put back"  # the bytes were found elsewhere
    MADE_AGAIN = "made again by the next run that needs it"
    LOST = "lost"


class DamagedBlob(msgspec.Struct, frozen=True):
    """A blob that was not whole. ``where``: what its bytes were found in, when it was put back."""

    digest: str
    state: DamageState
    uses: Uses
    cure: Repair
    where: str = ""

    @property
    def text(self) -> str:
        """One sentence: what it is, who needs it, and what became of it."""
        what = ", ".join(f"{name} of {dataset}" for dataset, name in sorted(self.uses.data)[:3]) or self._left()
        needed = [*self.uses.of(BlobKind.RELEASE), *(f"pin {name}" for name in self.uses.of(BlobKind.PINNED))]
        needed += [f"snapshot {names.short(digest)}" for digest in sorted(self.uses.snapshots)[:3]]
        by = f", needed by {', '.join(needed)}" if needed else ""
        end = f"{self.cure} from {self.where}" if self.where else str(self.cure)
        return f"{names.short(self.digest)} is {self.state}: {what}{by}: {end}"

    def _left(self) -> str:
        steps = self.uses.of(BlobKind.STEP)
        runs = self.uses.of(BlobKind.RUN)
        if steps:
            return f"left by step {', '.join(steps[:3])}"
        if runs:
            return f"left by run {', '.join(runs[:3])}"
        return "of a refused file" if self.uses.of(BlobKind.QUARANTINE) else "of a release"


class VerificationReport(msgspec.Struct, frozen=True):
    """What a verification found. ``bundles``: releases whose sealed folder is not whole, and why."""

    blobs: int
    size_bytes: int
    findings: tuple[DamagedBlob, ...]
    bundles: dict[str, str]

    @property
    def ok(self) -> bool:
        return not self.bundles and all(finding.cure is not Repair.LOST for finding in self.findings)


def verify(context: DeliveryContext) -> VerificationReport:
    """Read everything that is needed, and mend what can be mended."""
    with context.locks.hold_shared(BLOBS):
        needs = gather(context)
        size_bytes, bad = _read_all(context, needs)
        used = uses(context, needs, bad.keys()) if bad else {}
        for digest, state in bad.items():
            if state is DamageState.DAMAGED:
                _put_aside(context, digest)
        where = _put_back(context, used)
        findings = tuple(_finding(context, digest, state, used[digest], where) for digest, state in bad.items())
        bundles = dict(_bundles(context))
    for finding in findings:
        kind = "blob.restored" if finding.cure is Repair.PUT_BACK else "blob.damaged"
        facts = {"state": str(finding.state), "cure": str(finding.cure)}
        context.ledger.events.append(context.name, kind, finding.digest, finding.text, facts, actor=context.actor)
    return VerificationReport(len(needs.blobs), size_bytes, findings, bundles)


def _read_all(context: DeliveryContext, needs: References) -> tuple[int, dict[str, DamageState]]:
    """Bytes that are whole, and what is not, by digest."""
    bad: dict[str, DamageState] = {}
    total, done, told = 0, 0, time.monotonic()
    with ThreadPoolExecutor(cores()) as pool:
        for part in _parts(sorted(needs.blobs), AT_ONCE):
            for digest, found in zip(part, pool.map(lambda digest: _read(context, digest), part), strict=True):
                if isinstance(found, DamageState):
                    bad[digest] = found
                else:
                    total += found
            done += len(part)
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                context.progress(f"verified {done:,} of {len(needs.blobs):,} blobs, {size(total)}")
    return total, bad


def _parts(digests: list[str], count: int) -> Iterator[list[str]]:
    return (digests[start : start + count] for start in range(0, len(digests), count))


def _read(context: DeliveryContext, digest: str) -> int | DamageState:
    try:
        return context.blobs.verified_size(digest)
    except NotFoundError:
        return DamageState.MISSING
    except CorruptBlobError:
        return DamageState.DAMAGED


def _put_aside(context: DeliveryContext, digest: str) -> None:
    """Keep the damaged bytes for whoever wants to look at them, out of the way."""
    folder = context.state / DAMAGED_FOLDER
    folder.mkdir(exist_ok=True)
    context.blobs.put_aside(digest, folder / f"{digest}-{time.strftime('%Y%m%dT%H%M%S')}")


def _finding(context: DeliveryContext, digest: str, state: DamageState, used: Uses, where: Mapping[str, str]) -> DamagedBlob:
    if digest in where:
        return DamagedBlob(digest, state, used, Repair.PUT_BACK, where[digest])
    if used.data or not used.results:
        return DamagedBlob(digest, state, used, Repair.LOST)
    for result in used.results:  # one whose file is lost is no result: its step runs again
        context.blobs.discard(result)
    return DamagedBlob(digest, state, used, Repair.MADE_AGAIN)


# --- where the bytes may still be


def _put_back(context: DeliveryContext, used: Mapping[str, Uses]) -> dict[str, str]:
    """Digest -> where its bytes were found; they are in the store again."""
    found: dict[str, str] = {}
    for places in (_bundle_files, _home_files, _records, _source_files):
        wanted = {digest: needed for digest, needed in used.items() if digest not in found}
        for path, digest, shown in places(context, wanted) if wanted else ():
            if digest not in found and _holds(path, digest) and context.blobs.put_file(path) == digest:
                found[digest] = shown
    return found


def _holds(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and names.digest_file(path) == digest
    except OSError:
        return False


Candidate = tuple[Path, str, str]  # a file that may hold the bytes of this digest, and what people call it


def _bundle_files(context: DeliveryContext, used: Mapping[str, Uses]) -> Iterator[Candidate]:
    """The model of a release."""
    for release in ReleaseStore.of(context).list():
        bundle = context.bundle(release.digest)
        with contextlib.suppress(StoreError):
            for name, digest in read_manifest(bundle, release.digest).files.items():
                if digest in used:
                    yield bundle / name, digest, f"the bundle of {release.version}"


def _home_files(context: DeliveryContext, used: Mapping[str, Uses]) -> Iterator[Candidate]:
    """What commands left in the project's folder."""
    for digest, needed in used.items():
        for name in sorted(needed.outs):
            place = (context.home / name).resolve()
            if place.is_relative_to(context.home):
                yield place, digest, name


def _records(context: DeliveryContext, used: Mapping[str, Uses]) -> Iterator[Candidate]:
    """The record of this environment."""
    record = environment.record()
    if environment.digest(record) in used:
        known = {name: value for name, value in record.items() if name not in environment.NOT_IDENTITY}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "environment.json"
            path.write_bytes(json.dumps(known, sort_keys=True).encode())
            yield path, environment.digest(record), "this environment"


def _source_files(context: DeliveryContext, used: Mapping[str, Uses]) -> Iterator[Candidate]:
    """The files of a dataset where they came from."""
    wanted: dict[str, dict[str, list[str]]] = {}
    for digest, needed in used.items():
        for of, name in needed.data:
            wanted.setdefault(of, {}).setdefault(name, []).append(digest)
    if not wanted:
        return
    project = config.load(context.home)
    for of, files in wanted.items():
        dataset = project.data.get(of)
        if dataset is not None and not served_predictions.is_log(dataset.source):
            try:
                yield from _of_source(context, dataset, files)
            except NoriaError as error:
                context.progress(f"{of}: its source cannot be read: {error.message}")


def _of_source(context: DeliveryContext, dataset: config.DataSource, files: Mapping[str, list[str]]) -> Iterator[Candidate]:
    source = arrivals.connect(context, dataset)
    with tempfile.TemporaryDirectory() as folder:
        for found in source.list_files():
            if found.name not in files or found.problem:
                continue
            path = Path(found.path) if found.path is not None else Path(folder) / "fetched"
            if found.path is None:
                try:
                    source.fetch(found, path)
                except FileNotFoundError:
                    continue
            with (
                contextlib.suppress(DataError),  # what cannot be treated was never stored
                personal_columns.treated(dataset, path, found.name, personal_key.of_a_look(context.state)) as stored,
            ):
                for digest in files[found.name]:
                    yield stored, digest, found.name


# --- bundles


def _bundles(context: DeliveryContext) -> Iterator[tuple[str, str]]:
    """Releases whose sealed folder is not whole, and why."""
    for release in ReleaseStore.of(context).list():
        try:
            stored_bundle(context.state, release)
        except StoreError as error:
            yield release.version, error.message
