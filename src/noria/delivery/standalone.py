"""Serves releases without daemon, project or ledger: the same server tree, on a state folder of its own.

releases/DIGEST/   the sealed bundles, out of exports or linked from a project's store
signing.pub        the key that they are signed with
routes.json        the desired state: these releases and no others
log/ENVIRONMENT/   the prediction log, which stays when the release changes
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.kernel import logs
from noria.kernel.errors import DataError, NoriaError, RefusedError, ServingError
from noria.models.signature import Signature
from noria.releases import signing
from noria.releases.bundle import Bundle, make_links, open_release
from noria.releases.export_facts import FACTS, ExportFacts, facts_of
from noria.releases.export_reader import lay as lay_piece
from noria.releases.release import Release
from noria.serving import protocol, supervisor
from noria.serving.route import Route
from noria.serving.route_file import ROUTES, read_routes, write_routes
from noria.storage import archive
from noria.storage.archive import ArchiveMember, Content
from noria.storage.context import Progress, silent
from noria.storage.disk import full_disk, make_state, write_whole
from noria.storage.listed_archive import ExportFile, ExportMeter, demand_room, open_archive, take_all

BUNDLE = "bundle/"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class UnpackedRelease(msgspec.Struct, frozen=True):
    """A release that lies in the state folder, verified."""

    release: Release
    key: str  # the public key that whoever gave it signs with, as hex
    sealed_with: str  # the key of the bundle itself: the same, or an older one of theirs
    signature: Signature

    @property
    def example(self) -> dict[str, Any]:
        """A record that passes the check."""
        return protocol.example(self.signature)


Lay = Callable[[Path], UnpackedRelease]


def from_file(path: Path, keys: Collection[str] = (), progress: Progress = silent) -> Lay:
    """Lay the bundle of an export out. Its data, which comes behind and is not needed to serve, is not read.

    It raises DataError when the file is damaged, RefusedError when it is not signed, or with none of the ``keys`` that are named,
    DiskFullError.
    """

    def lay(state: Path) -> UnpackedRelease:
        with open_archive(path) as file:
            members = archive.members(file)
            facts = facts_of(members, keys)
            target = state / "releases" / facts.release.digest
            found = _sound(target, facts.release, [facts.sealed_by])
            if found is None:
                _unpack(state, members, facts, progress)
                found = _whole(target, facts, path)
        return UnpackedRelease(facts.release, facts.key, found.key, found.signature)

    return lay


def from_store(store: Path, release: Release) -> Lay:
    """Link the bundle of a release that a project's state folder holds. It raises RefusedError when it is barred, StoreError."""

    def lay(state: Path) -> UnpackedRelease:
        if release.barred:
            raise RefusedError(f"{release.version} is barred: {release.barred}", hint="`noria releases` lists the others.")
        keys = signing.known_keys(store)
        source, target = store / "releases" / release.digest, state / "releases" / release.digest
        found = open_release(source, release, keys)
        if _sound(target, release, keys) is None:
            with full_disk(state):
                incoming = _clear_incoming(state)
                shutil.copytree(source, incoming, copy_function=_link, symlinks=True)
                incoming.rename(target)
        return UnpackedRelease(release, keys[0], found.key, found.signature)

    return lay


def serve(options: supervisor.Options, lays: Sequence[Lay], ready: Callable[[list[UnpackedRelease], str], None]) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain. ``ready`` gets the releases and the address.

    Of several releases of one project the first answers; one more is resident, for who names it. Raises what a lay raises,
    RefusedError for the state folder of a project and for releases that cannot be served together, ServingError, PortInUseError.
    """
    logs.demand_settings()
    state, (environment,) = options.state, options.environments
    if (state / "ledger.db").exists():
        text = f"{state} is the state folder of a project"
        raise RefusedError(text, hint="Name another folder with --state; `noria up` serves a project from its own.")
    with full_disk(state.parent):
        make_state(state)
    with supervisor.sole(state):
        laid = [lay(state) for lay in lays]
        _desire(state, environment, laid)

        def answers(facts: Mapping[str, Any]) -> None:
            if facts["failed"]:
                versions = {one.release.digest: one.release.version for one in laid}
                raise ServingError("; ".join(f"{versions.get(d, d)}: {why}" for d, why in facts["failed"].items()))
            ready(laid, facts["addresses"][environment])

        asyncio.run(supervisor.main(options, answers, SIGNALS))


def _desire(state: Path, environment: str, laid: Sequence[UnpackedRelease]) -> None:
    """Writes the desired routes; the revision grows when the release changes. Raises RefusedError."""
    named: dict[str, list[Release]] = {}
    for one in laid:
        named.setdefault(one.release.project, []).append(one.release)
    for project in named:
        if len({one.key for one in laid if one.release.project == project}) > 1:
            raise RefusedError(
                f"the releases of {project} are signed with different keys: they come from two installations",
                hint="Serve each installation's releases in a separate process, with its own --state.",
            )
    for project, releases in named.items():
        if len(releases) > 2 or len({r.digest for r in releases}) < len(releases):
            text = f"{', '.join(r.version for r in releases)} of {project} cannot be served together"
            raise RefusedError(text, hint="Of one project, name the release that answers and at most one other.")
    with full_disk(state):
        keys = sorted({one.sealed_with for one in laid})
        write_whole(state / signing.PUBLIC, "".join(f"{key}\n" for key in keys).encode())
        file = state / ROUTES
        held = {route.project: route for route in _routes(file) if route.environment == environment}
        write_routes(file, [_route(environment, releases, held.get(project)) for project, releases in named.items()])
    kept = {one.release.digest for one in laid}
    for folder in (state / "releases").iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)  # one that was served before, or half of one


def _route(environment: str, releases: list[Release], held: Route | None) -> Route:
    release, *others = releases
    other = others[0] if others else None
    route = Route(
        release.project,
        environment,
        held.revision if held is not None else 1,
        release.digest,
        release.version,
        previous=other.digest if other else None,
        previous_version=other.version if other else None,
    )
    return route if held in (None, route) else replace(route, revision=route.revision + 1)


def _routes(file: Path) -> list[Route]:
    try:
        return read_routes(file) or []
    except NoriaError:  # damaged: it is written anew
        return []


def _unpack(state: Path, members: Iterator[ArchiveMember], facts: ExportFacts, progress: Progress) -> None:
    pieces = {name: piece for name, piece in facts.pieces.items() if name.startswith(BUNDLE)}
    size_bytes = sum(piece.size_bytes for piece in pieces.values())
    demand_room(state, size_bytes, "Name a folder on another disk: --state FOLDER")

    def take(name: str, piece: ExportFile, content: Content) -> str:
        return lay_piece(incoming / name.removeprefix(BUNDLE), piece, content)

    with full_disk(state):
        incoming = _clear_incoming(state)
        take_all(_of_bundle(members, len(pieces)), pieces, FACTS, take, ExportMeter("reading", size_bytes, progress))
        incoming.rename(state / "releases" / facts.release.digest)


def _of_bundle(members: Iterator[ArchiveMember], left: int) -> Iterator[ArchiveMember]:
    """The files of the bundle, and nothing behind the last of them."""
    for member in members:
        if member.name.startswith(BUNDLE):
            yield member
            left -= 1
        if left == 0:
            return


def _clear_incoming(state: Path) -> Path:
    """The place of a bundle on its way in, with its parent; what was left there half done is gone."""
    incoming = state / "releases" / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.parent.mkdir(exist_ok=True, mode=0o700)
    return incoming


def _sound(folder: Path, release: Release, keys: Sequence[str]) -> Bundle | None:
    """A bundle that lies there whole from an earlier start; a damaged one is taken away."""
    try:
        return open_release(folder, release, keys)
    except NoriaError:
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _whole(folder: Path, facts: ExportFacts, path: Path) -> Bundle:
    try:
        make_links(folder)
        return open_release(folder, facts.release, [facts.sealed_by])
    except NoriaError as error:
        raise DataError(error.message, where=path.name) from error


def _link(source: str, target: str) -> None:
    """A hard link, or a copy where the folders lie on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
