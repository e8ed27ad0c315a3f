"""`noria reproduce`: rebuilds a release from its record, or from its exported file, and compares."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.context import Home, actor, pass_home
from noria.cli.exported import find_export, public_keys
from noria.cli.output import ExitCode, emit, json_option, number, pairs, table
from noria.engine import assembly
from noria.engine.reproduce import TOLERANCE, ReproduceOptions, reproduce, reproduce_file
from noria.releases.store import ReleaseStore

if TYPE_CHECKING:
    from noria.engine.reproduce import ReproduceOptions, Reproduction
    from noria.storage.context import Progress


@click.command()
@click.argument("release", metavar="RELEASE|FILE")
@click.option("--into", type=click.Path(path_type=Path), help="A new folder to build in; by default a temporary one.")
@click.option("--tolerance", type=click.FloatRange(min=0), help="How much a metric may differ, absolute; by default 1e-6.")
@click.option(
    "--environment",
    type=click.Choice(["same", "rebuild"]),
    help="same: build in this Python environment; rebuild: in the recorded one, which uv makes again. By default in this "
    "one, with a warning about differences that matter.",
)
@click.option("--key", type=click.Path(path_type=Path), help="The public key (signing.pub) that FILE must be signed with.")
@json_option
def command(
    release: str, into: Path | None, tolerance: float | None, environment: str | None, key: Path | None, as_json: bool
) -> int:
    """Rebuild a release from its code, data, parameters and environment record, without cached steps, and compare.

    A RELEASE comes from this project's store. A FILE that `noria releases export` wrote needs no project and no store: its
    digests and its signature are verified, then its code runs, as you.

    \b
    Example:
      noria reproduce v1
      noria reproduce v1 --environment rebuild
      noria reproduce v1.noria.tar --into again --key signing.pub

    Exit code 0 when bytes or metrics agree, 1 when they do not.
    JSON: release, agrees, bytes_agree, metrics_agree, worst_difference, tolerance, metrics {name: {recorded, measured,
    difference}}, steps [{name, agrees, files}], divergence {step, files, deterministic, causes, text} (null when every step
    agrees), environment, interpreter, lock, seed, key, folder, text.
    """
    rebuild = None if environment is None else environment == "rebuild"
    asked = ReproduceOptions(TOLERANCE if tolerance is None else tolerance, rebuild)
    progress: Progress = (lambda _: None) if as_json else (lambda text: click.echo(text, err=True))
    path = find_export(release)
    folder = (into or Path(tempfile.mkdtemp(prefix="noria-reproduced-"))).resolve()
    try:
        found = _from_store(release, folder, asked, progress) if path is None else _from_file(path, folder, key, asked, progress)
    finally:
        if into is None:
            with contextlib.suppress(OSError):  # it is kept with what is in it
                folder.rmdir()
    emit(as_json, lambda: facts_of(found), lambda: render(found))
    return ExitCode.PASSED if found.agrees else ExitCode.NO


def _from_file(path: Path, folder: Path, key: Path | None, asked: ReproduceOptions, progress: Progress) -> Reproduction:
    return reproduce_file(path, folder, public_keys(key) if key is not None else (), asked, progress)


@pass_home
def _from_store(home: Home, release: str, folder: Path, asked: ReproduceOptions, progress: Progress) -> Reproduction:
    context = assembly.assemble(home.path, actor=actor(), progress=progress)
    try:
        found = reproduce(context, ReleaseStore.of(context).get(release), folder, asked)
    finally:
        context.executor.close()
    context.event("release.reproduced", found.release, found.text, agrees=found.agrees)
    return found


def facts_of(found: Reproduction) -> dict[str, Any]:
    """As JSON; a difference that is no number is null there."""
    facts: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return facts


def render(found: Reproduction) -> str:
    """Renders the result: each step and metric that differs in any bit, and the folder."""
    parted = [(step.name, ", ".join(step.files)) for step in found.steps if step.agrees is False]
    metrics = [
        (name, *("–" if v is None else number(v) for v in (m.recorded, m.measured)), f"{m.difference:.1e}")
        for name, m in found.metrics.items()
        if m.difference
    ]
    items = [("result", found.text), ("folder", found.folder), ("steps run in", found.interpreter)]
    items += [("signed with", found.key)] if found.key else []
    items += [("lock file", text) for text in found.lock]
    items += [("may differ because", text) for text in (found.divergence.causes if found.divergence else ())]
    parts = [pairs(items)]
    parts += [table(("step", "files that differ"), parted)] if parted else []
    parts += [table(("metric", "recorded", "measured", "apart"), metrics)] if metrics else []
    return "\n\n".join(parts)
