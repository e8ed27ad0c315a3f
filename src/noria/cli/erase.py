"""`noria data erase`: erases the contents of files permanently; without --yes, lists what that would remove and affect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, pairs, plural
from noria.cli.versions import at_work
from noria.kernel import names
from noria.kernel.words import size
from noria.trust import erasure as engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noria.trust.erasure import ErasurePlan, SealedFiles

NAMED = 5  # of a kind; the rest is counted


@click.command()
@click.argument("what", metavar="SNAPSHOT|FILE")
@click.option("--yes", is_flag=True, help="Really erase; without it nothing is erased.")
@json_option
@pass_home
def erase(home: Home, what: str, yes: bool, as_json: bool) -> None:
    """Erase a FILE in all its versions, or all files of a SNAPSHOT, permanently; without --yes, list what would be erased.

    The results, logs and artifacts of every step that read them are erased, too. Snapshots that held them stay listed. Releases
    made from them keep their models and serve, but can no longer be reproduced. Files that are still in their source are not
    touched, and the next run takes them in again.

    \b
    Example:  noria data erase data/2013-06-24.csv
              noria data erase data/2013-06-24.csv --yes
              noria data erase flights@v3

    JSON keys: erased (false without --yes), files [{dataset, name, digest, size_bytes}], size_bytes (with results), snapshots,
    releases, runs, pins, steps, results (how many), samples (how many), sealed {release: [files of its code]}, checkouts (how
    many), in_source [files that are still there], beside [what steps wrote to the project's folder], in_git [files that commits
    hold], unknown [releases whose commit Git does not know].
    """
    home.existing_ledger().close()  # says so where nothing has happened yet
    with at_work(home, as_json) as context:
        found = engine.erase(context, what) if yes else engine.plan(context, what)
    emit(as_json, lambda: _facts(found, yes), lambda: _render(found, yes))


def _facts(found: ErasurePlan, erased: bool) -> dict[str, Any]:
    touched = found.touched
    return {
        "erased": erased,
        "files": [msgspec.to_builtins(file) for file in found.files],
        "size_bytes": found.size_bytes,
        "snapshots": sorted(digest for digests in touched.snapshots.values() for digest in digests),
        "releases": list(touched.releases),
        "runs": list(touched.runs),
        "pins": list(touched.pins),
        "steps": list(touched.steps),
        "results": touched.count,
        "samples": len(found.samples),
        "sealed": {_release(sealed): list(sealed.files) for sealed in found.sealed},
        "checkouts": len(found.trees),
        "in_source": list(found.in_source),
        "beside": list(found.beside),
        "in_git": list(found.in_git),
        "unknown": list(found.unknown),
    }


def _render(found: ErasurePlan, erased: bool) -> str:
    if not found.files:
        return "nothing of it is left in the store; it was erased before"
    touched = found.touched
    shown = dict.fromkeys(f"{file.name} of {file.dataset}" for file in found.files)
    contents = plural(len(found.roots), "content")
    snapshots = [names.short(digest) for digests in touched.snapshots.values() for digest in sorted(digests)]
    lines = [
        ("erased" if erased else "would go", f"{_some(list(shown))}: {contents}, {size(found.size_bytes)} with what follows")
    ]
    if touched.steps:
        lines.append(("and with it", f"{plural(touched.count, 'result')} of steps, with logs: {_some(touched.steps)}"))
    if found.samples:
        lines.append(("and", f"{plural(len(found.samples), 'sample')} of failing rows"))
    if snapshots:
        lines.append(("snapshots", f"{_some(snapshots)}: stay listed, incomplete"))
    if touched.releases:
        what = "no longer reproducible; their bundles and models stay and serve"
        lines.append(("releases", f"{_some(touched.releases)}: {what}"))
    for sealed in found.sealed:
        code = [name.removeprefix("code/") for name in sealed.files]
        lines.append(("code", f"{_some(code)} of {_release(sealed)}: taken out of its bundle"))
    if found.trees:
        lines.append(("checkouts", f"{plural(len(found.trees), 'commit')}: checked out from Git again when needed"))
    if touched.runs:
        lines.append(("runs", f"{_some(touched.runs)}: their records stay"))
    if touched.pins:
        lines.append(("pins", f"{_some(touched.pins)}: stay pinned, incomplete"))
    lines += _elsewhere(found)
    end = "" if erased else "\nnothing was erased; --yes erases it permanently"
    return pairs(lines) + end


def _release(sealed: SealedFiles) -> str:
    return f"{sealed.project} {sealed.version}"


def _elsewhere(found: ErasurePlan) -> list[tuple[str, str]]:
    """Lists what Noria does not erase."""
    lines = []
    if found.in_source:
        lines.append(("still there", f"{_some(found.in_source)}: remove it there, or the next run takes it in again"))
    elif found.standing:
        lines.append(("its source", "what it still holds is taken in again by the next run"))
    if found.beside:
        lines.append(("still there", f"{_some(found.beside)}, written by steps to the project's folder"))
    if found.in_git:
        lines.append(("still there", f"{_some(found.in_git)}, in the history of Git"))
    if found.unknown:
        text = f"{_some(found.unknown)}: Git no longer has the commit, so the code was searched for equal files only"
        lines.append(("not sure", text))
    lines.append(("not touched", "backups, exports, checkouts, prediction and shadow logs"))
    return lines


def _some(found: Sequence[str]) -> str:
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
