"""`noria gc`: lists what is no longer needed; with --yes, deletes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from noria.cli.context import Home, pass_home
from noria.cli.output import duration, emit, json_option, plural, table
from noria.cli.versions import at_work
from noria.config.units import duration_s
from noria.kernel.errors import UsageError
from noria.kernel.words import size
from noria.trust import gc

if TYPE_CHECKING:
    from noria.trust.gc import GarbageItem, GarbagePlan

LARGEST = 5


@click.command()
@click.option(
    "--keep", default="30d", show_default=True, metavar="TIME", help="How long to keep runs and refused files: 12h, 30d, 8w."
)
@click.option("--yes", is_flag=True, help="Really delete; without it nothing is deleted.")
@click.option("--trust-clock", is_flag=True, help="Delete even if the clock seems to have jumped.")
@json_option
@pass_home
def command(home: Home, keep: str, yes: bool, trust_clock: bool, as_json: bool) -> None:
    """List what is no longer needed; with --yes, delete it.

    Kept are: everything that releases were made from, and their bundles; pinned snapshots; the accepted files of each dataset;
    the newest result of each step; runs and refused files younger than --keep; anything that changed in the last hour. `noria
    data log` and `noria runs` still list older runs, without their files.

    If nothing was recorded for more than 3 days, nothing is deleted for the next 2 days: the clock may have jumped.

    \b
    Example:  noria gc
              noria gc --keep 8w --yes

    JSON keys: deleted (false without --yes), keep_s, count, size_bytes, kinds {kind: {count, size_bytes}}, largest [{kind, name,
    size_bytes}], forgotten {results, snapshots}, kept {kind: count}, doubt (why the clock is not believed, or empty).
    """
    keep_s = _seconds(keep)
    home.existing_ledger().close()  # says so where nothing has happened yet
    with at_work(home, as_json) as context:
        found = gc.collect(context, keep_s, trust_clock=trust_clock) if yes else gc.plan(context, keep_s)
    emit(as_json, lambda: document(found, keep_s, yes), lambda: render(found, keep_s, yes))


def _seconds(text: str) -> float:
    try:
        return duration_s(text)
    except ValueError as error:
        raise UsageError(f"--keep {text!r} is no time", hint=str(error) or "Like 12h, 30d or 8w.") from None


def document(found: GarbagePlan, keep_s: float, deleted: bool) -> dict[str, Any]:
    """The stable keys."""
    return {
        "deleted": deleted,
        "keep_s": keep_s,
        "count": len(found.items),
        "size_bytes": found.size_bytes,
        "kinds": {kind: {"count": len(items), "size_bytes": _bytes(items)} for kind, items in _kinds(found)},
        "largest": [{"kind": str(i.waste), "name": i.name, "size_bytes": i.size_bytes} for i in found.largest(LARGEST)],
        "forgotten": {"results": _count(found.results), "snapshots": _count(found.snapshots)},
        "kept": _holder_counts(found),
        "doubt": found.doubt,
    }


def _kinds(found: GarbagePlan) -> list[tuple[str, list[GarbageItem]]]:
    by_kind: dict[str, list[GarbageItem]] = {}
    for item in found.items:
        by_kind.setdefault(str(item.waste), []).append(item)
    return list(by_kind.items())


def _bytes(items: list[GarbageItem]) -> int:
    return sum(item.size_bytes for item in items)


def _count(several: dict[str, list[str]]) -> int:
    return sum(len(found) for found in several.values())


def _holder_counts(found: GarbagePlan) -> dict[str, int]:
    """How many of each kind hold something."""
    counts: dict[str, int] = {}
    for holder in found.needs.kept.holders:
        counts[str(holder.kind)] = counts.get(str(holder.kind), 0) + 1
    return counts


def render(found: GarbagePlan, keep_s: float, deleted: bool) -> str:
    """By kind, the largest, and what comes next."""
    if not found.items:
        return f"nothing to delete: everything is needed, or younger than an hour (runs are kept for {duration(keep_s)})"
    rows = [(kind, f"{len(items):,}", size(_bytes(items))) for kind, items in _kinds(found)]
    large = [(str(item.waste), size(item.size_bytes), item.name) for item in found.largest(LARGEST)]
    head = f"{'deleted' if deleted else 'would be deleted'}: {plural(len(found.items), 'thing')}, {size(found.size_bytes)}"
    results, snapshots = _count(found.results), _count(found.snapshots)
    forgotten = f"forgotten: {plural(results, 'result')} of steps, {plural(snapshots, 'snapshot')}"
    parts = [head, table(("kind", "count", "size"), rows), forgotten, table(("the largest", "size", "what"), large)]
    how = f"it would be refused because {found.doubt}" if found.doubt else "`noria gc --yes` does it"
    return "\n\n".join(parts if deleted else [*parts, f"Nothing was deleted. {how[:1].upper()}{how[1:]}."])
