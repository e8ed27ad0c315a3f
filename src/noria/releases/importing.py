"""Importing: a release of a model that was trained elsewhere. It passed no gates: promoting it by hand is its approval.

The file is copied first, so that what is hashed is what is read; it is read, described, compiled and asked in a separate process,
never in this one. What comes out is sealed, signed and numbered as any release.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from noria.kernel import errors, names
from noria.kernel.errors import DataError, NoriaError, NotFoundError, RefusedError, UsageError
from noria.kernel.pins import Pins
from noria.kernel.threads import ONE_THREAD
from noria.kernel.words import lasting, size
from noria.models import weights
from noria.models.frameworks import file_kinds
from noria.models.frameworks.file_kinds import FileContent
from noria.models.golden import GOLDEN
from noria.models.signature import Signature
from noria.pipeline import environment
from noria.pipeline.context import PipelineContext
from noria.releases import bundle, sealing
from noria.releases.bundle import HostedFacts, ImportedFrom, Manifest
from noria.releases.packaging import model_facts_of, model_file
from noria.releases.release import IMPORTED, Release, ServedForm
from noria.releases.store import ReleaseStore
from noria.storage.disk import full_disk

TIMEOUT_S = 600.0
MODEL_MOST = 2 << 30  # bytes; what protobuf holds
EXTERNAL = ".data"  # the usual suffix of a graph's weights
BESIDE_MOST = 10_000  # files of weights of one graph
RESERVED = ("job.json", "result.json")  # names in the folder that it is read in


class ImportOrder(msgspec.Struct, frozen=True):
    """``file`` and what the person says of it; empty where nothing is said."""

    file: Path
    signature: Path | None = None
    sample: Path | None = None
    label: str | None = None
    task: str | None = None
    classes: tuple[str, ...] = ()
    key: str | None = None
    event_time: str | None = None
    trusted: tuple[str, ...] = ()  # types that a skops file may hold
    vouched: bool = False  # for a pickle: the person lets its code run


class ReleaseImport(msgspec.Struct, frozen=True):
    """The release, and where it came from."""

    release: Release
    origin: dict[str, Any]
    signature: dict[str, Any]
    parity: dict[str, Any] | None
    reason: str  # why it is compiled, or hosted


def take_in(context: PipelineContext, order: ImportOrder) -> ReleaseImport:
    """Make a release of a model file.

    Raises NotFoundError, UsageError for what has to be said and was not, DataError for a file that is damaged, RefusedError for
    one that is not trusted or does not fit, DiskFullError. Then nothing was kept but the event of who vouched.
    """
    content = _content(context, order.file)
    kind = content.kind or ""
    with full_disk(context.state), _scratch(context) as (run_id, folder):
        copy = _copy_model(order.file, folder, content)
        sha256 = _sha256(copy)
        if kind in file_kinds.RUNS_CODE:
            _require_voucher(context, order, sha256, kind)
        context.progress(f"reading {order.file.name} (sha256 {sha256[:16]}) in a separate process")
        target = folder / "bundle"
        target.mkdir()
        result = _inspect_model(copy, kind, target, order)
        ours = {copy.name, "job.json", "result.json"}
        beside = (
            {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name not in ours}
            if kind == "onnx"
            else {}
        )
        origin = _origin(context, order, kind, sha256, result) | ({"weights": beside} if beside else {})
        digest = _seal_bundle(context, run_id, target, result, origin)
        return _record_release(context, run_id, digest, result, origin)


def _content(context: PipelineContext, file: Path) -> FileContent:
    """What kind of model the file holds, by its content; by its suffix where that tells nothing."""
    if file.is_dir():
        found = file_kinds.folder(file)
        raise UsageError(f"{file} is {found.what}", hint=found.hint)
    if not file.is_file():
        raise NotFoundError("there is no such file", where=str(file))
    size_bytes = file.stat().st_size
    if not size_bytes:
        raise DataError("is empty (0 bytes)", where=str(file))
    if size_bytes > MODEL_MOST:
        raise RefusedError(f"is larger than {size(MODEL_MOST)}", where=str(file))
    try:
        found = file_kinds.recognise(file)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(file)) from error
    if found.what:
        raise DataError(f"is {found.what}", where=str(file), hint=found.hint)
    by_suffix = file_kinds.SUFFIXES.get(file.suffix.lower())
    if found.kind is None and by_suffix is None:
        raise UsageError(f"{file.name} is not a model file that can be imported", hint=f"Known: {file_kinds.KNOWN}")
    if found.kind is not None and by_suffix not in (None, found.kind) and found.suffix != file.suffix.lower():
        context.progress(f"{file.name} is {file_kinds.NAMED[found.kind]}, whatever its suffix says")
    kind = found.kind or by_suffix
    assert kind is not None
    return FileContent(kind, suffix=found.suffix or (file.suffix.lower() if by_suffix == kind else f".{kind}"))


@contextmanager
def _scratch(context: PipelineContext) -> Iterator[tuple[str, Path]]:
    run_id = names.new_id(IMPORTED)
    folder = context.folder(run_id)
    try:
        yield run_id, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_model(file: Path, folder: Path, content: FileContent) -> Path:
    """What is hashed is what is read. Weights of a graph that lie beside it come along."""
    copy = folder / f"model{content.suffix}"
    try:
        shutil.copyfile(file, copy)
        for beside in file.parent.glob(f"{glob.escape(file.name)}*{EXTERNAL}") if content.kind == "onnx" else ():
            _beside(file, beside, folder)
    except OSError as error:
        if error.errno in (13, 1, 5, 21):
            raise DataError(f"cannot be read: {error.strerror}", where=str(file)) from error
        raise
    return copy


def _beside(file: Path, beside: Path, folder: Path) -> None:
    """Copy weights that lie beside the graph."""
    _demand_beside(file, beside)
    shutil.copyfile(beside, folder / beside.name)


def _demand_beside(file: Path, beside: Path) -> None:
    """Whoever made the folder may have linked any file of this machine as weights: its bytes would be in the release."""
    if beside.resolve().parent != file.resolve().parent:
        text = f"{beside.name} is a link that leads to {beside.resolve()}, not to a file beside the model"
        raise RefusedError(text, where=str(file), hint="Copy the weights beside the model.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_voucher(context: PipelineContext, order: ImportOrder, sha256: str, kind: str) -> None:
    if not order.vouched:
        raise RefusedError(
            f"{order.file.name} is {file_kinds.NAMED[kind]}: loading it runs the code that is in it, as you, here and "
            f"wherever it is served. "
            f"Its sha256 is {sha256}",
            hint="If you trust its origin, vouch for it: --vouch-for-pickle. ONNX, skops and booster files need no trust.",
        )
    text = f"{context.actor} vouches for {order.file.name}, {file_kinds.NAMED[kind]}, sha256 {sha256}: its code runs"
    context.event("pickle.vouched", order.file.name, text, sha256=sha256)


def _inspect_model(copy: Path, kind: str, target: Path, order: ImportOrder) -> dict[str, Any]:
    """What the process found that read the file."""
    job = {
        "file": str(copy),
        "kind": kind,
        "folder": str(target),
        "signature": _path(order.signature),
        "sample": _path(order.sample),
        "label": order.label,
        "task": order.task,
        "classes": list(order.classes),
        "key": order.key,
        "event_time": order.event_time,
        "trusted": list(order.trusted),
    }
    place = copy.parent / "job.json"
    place.write_text(json.dumps(job))
    result = copy.with_name("result.json")
    code, said = apart(place, order.file.name)
    if _copy_missing_weights(result, order.file, copy.parent):
        code, said = apart(place, order.file.name)
    return _answer(result, code, said, order.file.name)


def _copy_missing_weights(result: Path, file: Path, folder: Path) -> bool:
    """Whether weights were missing that lie beside the file under names that only the graph knows: they are copied then."""
    try:
        names = json.loads(result.read_bytes()).get("beside", [])
    except (OSError, ValueError):
        return False
    if not names or len(names) > BESIDE_MOST or not all(isinstance(n, str) and Path(n).name == n for n in names):
        return False
    found = [file.with_name(name) for name in names]
    if any(one.name in RESERVED or one == file or not one.is_file() for one in found):
        return False
    for one in found:
        _beside(file, one, folder)
    result.unlink()
    return True


def apart(job: Path, name: str) -> tuple[int, str]:
    """Do the job in a separate process; its exit code, and what it said last. Raises DataError when it takes too long."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "noria.models.foreign_model", str(job)],
        cwd=job.parent,
        env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DataError(f"could not be read within {lasting(TIMEOUT_S)}", where=name) from None
    finally:
        _end(process)
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return process.returncode, " ".join(lines[-3:])[:400]


def _path(path: Path | None) -> str | None:
    return str(path.resolve()) if path is not None else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process, and whatever a pickle may have started in its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answer(place: Path, code: int, said: str, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(place.read_bytes())
    except (OSError, ValueError):
        why = f": {said}" if said else ""
        raise DataError(f"ended the process that read it (code {code}){why}", where=name, hint="Is the file complete?") from None
    if "error" in found:
        kind = getattr(errors, found["error"], DataError)
        assert issubclass(kind, NoriaError)
        raise kind(found["message"], where=found["where"] or name, hint=found["hint"])
    return found


def _origin(context: PipelineContext, order: ImportOrder, kind: str, sha256: str, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "file": order.file.name,
        "sha256": sha256,
        "size_bytes": order.file.stat().st_size,
        "kind": kind,
        "framework": result["framework"],
        "by": context.actor,
        "at": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        "vouched": kind in file_kinds.RUNS_CODE,
        "trusted": list(order.trusted),
        "compared_on": result["rows"],
        "derived": [text for text in result["derived"] if text],
        "notes": result["notes"],
        "written_with": result["written_with"],
        "read_with": result["read_with"],
        "warnings": result["warnings"],
        "gates": "none: imported",
    }


def _seal_bundle(context: PipelineContext, run_id: str, folder: Path, result: dict[str, Any], origin: dict[str, Any]) -> str:
    """The bundle in its place; its digest."""
    form = ServedForm(result["form"])
    record = environment.record()
    (folder / bundle.CODE).mkdir()
    evidence = folder / "evidence"
    evidence.mkdir()
    parity = {k: result[k] for k in ("form", "reason", "parity", "latency_p50_ms", "latency_p99_ms")}
    documents = {"origin": origin, "parity": parity, "environment": record, "params": {}, "data": {}, "steps": []}
    for name, facts in documents.items():
        (evidence / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
    listed = [model_file(form), GOLDEN, *(f"evidence/{name}.json" for name in documents)]
    if weights.beside(folder / model_file(form)).exists():
        listed.append(model_file(form) + weights.SUFFIX)
    manifest = Manifest(
        bundle.FORMAT,
        context.name,
        form,
        msgspec.convert(result["signature"], Signature),
        model_facts_of(form),
        HostedFacts() if form is ServedForm.HOSTED else None,
        run_id,
        _pins(context, record),
        {name: names.digest_file(folder / name) for name in sorted(listed)},
        origin=ImportedFrom(origin["file"], origin["sha256"]),
    )
    digest = bundle.seal(folder, context.state, manifest)
    sealing.place(folder, context.bundle(digest))
    return digest


def _pins(context: PipelineContext, record: dict[str, object]) -> Pins:
    """An import is bound to no commit and no data of the project."""
    known = {name: value for name, value in record.items() if name not in environment.NOT_IDENTITY}
    context.blobs.put_bytes(json.dumps(known, sort_keys=True).encode())  # what the digest stands for
    nothing = names.digest_bytes(b"{}")
    return Pins(None, None, {}, nothing, names.digest_file(context.home / "noria.yaml"), environment.digest(record))


def _record_release(
    context: PipelineContext, run_id: str, digest: str, result: dict[str, Any], origin: dict[str, Any]
) -> ReleaseImport:
    identity = names.digest_bytes(f"import:{origin['sha256']}".encode())  # of no run: barring it bars no other work
    with context.ledger.transaction():
        made = ReleaseStore.of(context).seal(digest, run_id, None, ServedForm(result["form"]), None, {}, identity)
        text = f"{made.version} imported from {origin['file']} ({origin['framework']}), {made.form}; it passed no gates"
        context.event(
            "release.imported", made.version, text, digest=digest, sha256=origin["sha256"], framework=origin["framework"]
        )
    return ReleaseImport(made, origin, result["signature"], result["parity"], result["reason"])
