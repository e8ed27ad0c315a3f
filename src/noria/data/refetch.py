"""Objects that are pinned by their version: they stay at their origin, and what the store has of them is a cache."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from noria.config import DataSource, Project
from noria.data import arrivals
from noria.data.kept_versions import erased_files
from noria.data.snapshot import FilePin
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import DataError
from noria.kernel.words import plural
from noria.storage.context import StoreContext


def bring(context: StoreContext, project: Project, snapshots: Iterable[str], wanted: Iterable[str] | None = None) -> None:
    """Fetch what is not in the store any more of these snapshots' pinned objects; only those of ``wanted`` digests, if told.

    What was erased stays away. Raises DataError when an object is gone, or is another one now.
    """
    pinned = {name: dataset for name, dataset in project.data.items() if dataset.pin == "version"}
    if not pinned:
        return
    asked = None if wanted is None else set(wanted)
    erased = erased_files(context.ledger)
    for snapshot in snapshots:
        facts = DataStore.of(context).facts(snapshot)
        if facts.dataset in pinned:
            files = DataStore.of(context).files_of(snapshot)
            absent = [
                pin
                for pin in files
                if pin.origin
                and (asked is None or pin.digest in asked)
                and pin.digest not in erased
                and not context.blobs.exists(pin.digest)
            ]
            if absent:
                _fetch(context, pinned[facts.dataset], absent)


def _fetch(context: StoreContext, dataset: DataSource, pins: Sequence[FilePin]) -> None:
    context.progress(f"{dataset.name}: fetching {plural(len(pins), 'file')} again from the origin")
    source = arrivals.connect(context, dataset)
    there = {found.name: found for found in source.list_files()}
    (context.state / "work").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=context.state / "work", prefix="fetch-") as folder:
        target = Path(folder) / "object"
        for pin in pins:
            found = there.get(pin.name)
            if found is None:
                raise _gone_error(dataset, pin, "is gone from its origin")
            try:
                source.fetch(found, target)
            except FileNotFoundError:
                raise _gone_error(dataset, pin, "is gone from its origin") from None
            if names.digest_file(target) != pin.digest:
                raise _gone_error(dataset, pin, "is no longer the version that was taken in")
            context.blobs.put_file(target, lasting=False)


def _gone_error(dataset: DataSource, pin: FilePin, what: str) -> DataError:
    hint = f"`pin: version` of {dataset.name} requires objects that never change: restore it, or remove `pin` to store copies."
    return DataError(f"{pin.name} {what}", where=f"dataset {dataset.name}", hint=hint)
