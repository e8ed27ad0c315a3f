"""Export: a release in one signed file that needs neither the store nor the machine where it was made (``export_facts``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from noria import __version__, config
from noria.data import refetch
from noria.data.kept_versions import erased_files
from noria.data.snapshot import FilePin, Snapshot
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import NotFoundError, RefusedError
from noria.kernel.pins import Pins
from noria.pipeline import interpreters
from noria.pipeline.context import PipelineContext
from noria.pipeline.run import StepRecord
from noria.releases import signing
from noria.releases.bundle import CODE, OWN, stored_bundle
from noria.releases.export_facts import FACTS, FORMAT, KINDS, SEAL, ExportFacts, LeftOutDataset
from noria.releases.release import Release
from noria.storage.listed_archive import ByteSource, ExportFile, ExportMeter, demand_new, write


def export(context: PipelineContext, release: Release, target: Path, *, with_data: bool = True) -> ExportFacts:
    """Write a release to ``target``: wholly or not at all.

    Raises RefusedError when ``target`` exists or data was erased, CorruptBlobError when it is damaged; both name the file.
    """
    demand_new(target)
    facts, sources = _gather_export(context, release, with_data)
    content = msgspec.json.format(msgspec.json.encode(facts, order="sorted"), indent=1)
    ahead = {FACTS: content, SEAL: signing.sign(context.state, content)}
    write(target, ahead, sources, ExportMeter("writing", facts.size_bytes, context.progress))
    return facts


def data_of(context: PipelineContext, release: Release, pins: Pins) -> Iterator[tuple[Snapshot, list[tuple[FilePin, Path]]]]:
    """Each dataset of a release with its files, to be verified while they are copied. Raises RefusedError for what was erased."""
    for dataset, digest in sorted(pins.snapshots.items()):
        try:
            snapshot = DataStore.of(context).snapshot(digest)
        except NotFoundError as error:
            raise _erased_error(release, f"the manifest of {dataset}") from error
        if any(pin.origin for pin in snapshot.files):
            refetch.bring(context, config.load(context.home), [digest])
        yield snapshot, [(pin, _pinned_file(context, release, dataset, pin)) for pin in snapshot.files]


def _pinned_file(context: PipelineContext, release: Release, dataset: str, pin: FilePin) -> Path:
    try:
        return context.blobs.unverified_path(pin.digest)
    except NotFoundError as error:
        if pin.origin is not None and pin.digest not in erased_files(context.ledger):
            what = f"{pin.name} of {dataset} is still at its origin, but the project no longer says how to fetch it"
            raise RefusedError(
                what, where=pin.origin, hint=f"Put {dataset} back into noria.yaml, with `pin: version`."
            ) from error
        raise _erased_error(release, f"{pin.name} of {dataset}") from error


def _erased_error(release: Release, what: str) -> RefusedError:
    return RefusedError(
        f"{release.version} is not reproducible: {what} was erased",
        hint="It can still be exported for serving, without its data: --without-data.",
    )


def _gather_export(context: PipelineContext, release: Release, with_data: bool) -> tuple[ExportFacts, dict[str, ByteSource]]:
    sealed = stored_bundle(context.state, release)
    bundle, pins = sealed.folder, sealed.pins
    sources = {f"bundle/{name}": _file(bundle / name, digest) for name, digest in sealed.files.items()}
    for name in sorted(OWN):
        if (bundle / name).exists():
            sources[f"bundle/{name}"] = _file(bundle / name, names.digest_file(bundle / name))
    snapshots, left_out = {}, {}
    if with_data:
        for snapshot, files in data_of(context, release, pins):
            content = msgspec.json.encode(snapshot)
            digest = names.digest_bytes(content)
            snapshots[snapshot.dataset] = snapshot.digest
            sources[f"snapshots/{snapshot.digest}.json"] = ByteSource(ExportFile(digest, len(content)), content)
            told = f"of {snapshot.dataset}"
            sources |= {f"blobs/{pin.digest}": _file(path, pin.digest, f"{pin.name} {told}") for pin, path in files}
        sources |= {f"blobs/{digest}": _file(context.blobs.path(digest), digest) for digest in _outputs(context, bundle)}
    else:
        left_out = {dataset: _absent(context, digest) for dataset, digest in pins.snapshots.items()}
    lock = interpreters.lock_of(bundle / CODE)
    key = signing.public_key(context.state)
    facts = ExportFacts(
        FORMAT,
        __version__,
        key,
        replace(release, barred=None),  # said of it later: no part of what it is
        {name: sources[name].piece for name in sorted(sources)},
        snapshots,
        left_out,
        lock.name if lock else "",
        "" if sealed.key == key else sealed.key,
    )
    return facts, {name: sources[name] for name in sorted(sources, key=_place)}


def _file(path: Path, digest: str, called: str = "") -> ByteSource:
    facts = path.stat()
    return ByteSource(ExportFile(digest, facts.st_size, bool(facts.st_mode & 0o100)), path, called or path.name)


def _outputs(context: PipelineContext, bundle: Path) -> Iterator[str]:
    """What the steps of the release left, in digests, as far as it is still kept: to be compared with."""
    for record in recorded_steps(bundle):
        if record.output is not None and context.blobs.is_sound(record.output):
            yield record.output


def recorded_steps(bundle: Path) -> list[StepRecord]:
    """The steps of the run that made a release."""
    return msgspec.json.decode((bundle / "evidence" / "steps.json").read_bytes(), type=list[StepRecord])


def _absent(context: PipelineContext, digest: str) -> LeftOutDataset:
    try:
        files = DataStore.of(context).snapshot(digest).files
    except NotFoundError:
        files = ()
    return LeftOutDataset(digest, len(files), sum(pin.size_bytes for pin in files))


def _place(name: str) -> tuple[int, str]:
    return KINDS.index(name.partition("/")[0]), name
