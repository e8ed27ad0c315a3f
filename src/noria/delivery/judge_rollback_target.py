"""Judges where a rollback goes: to the newest earlier champion that is not barred and whose bundle is here."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import msgspec


class RollbackTarget(msgspec.Struct, frozen=True):
    """The release that takes over, and why it is not a newer one."""

    version: str
    text: str


class Refusal(msgspec.Struct, frozen=True):
    """No release can take over: what is wrong, and what a person can do."""

    text: str
    hint: str


def target(
    history: Sequence[str], releases: Mapping[str, str | None], present: str, wanted: str | None, here: Container[str]
) -> RollbackTarget | Refusal:
    """Where ``present`` gives way to.

    ``history``: champions of the environment, newest first, a version once for each time that it served; ``releases``: every
    sealed version, and why it is barred or None; ``here``: those whose bundle is on this machine, whole. ``wanted`` may be any
    sealed release, also one that never served. What was rolled back is barred, so that a second rollback goes one further.
    """
    if wanted is not None:
        return _named_target(history, releases, present, wanted, here)
    passed: list[str] = []
    for version in _before(history, present):
        why = _unfit(version, releases, here)
        if why is None:
            return RollbackTarget(version, f"{version} served before {present}" + (f" ({'; '.join(passed)})" if passed else ""))
        passed.append(why)
    if not passed:
        text = f"no other release served before {present}: there is no release to return to"
        return Refusal(text, "`noria promote VERSION` promotes a sealed release; `noria releases` lists them.")
    return Refusal(
        f"there is no release to return to from {present}: {'; '.join(passed)}",
        "`noria release lift VERSION` lifts a bar; `noria reproduce VERSION` rebuilds a release.",
    )


def _before(history: Sequence[str], present: str) -> list[str]:
    """Versions that served before ``present`` last got its place, newest first, each once."""
    at = history.index(present) + 1 if present in history else 0
    return [version for version in dict.fromkeys(history[at:]) if version != present]


def _unfit(version: str, releases: Mapping[str, str | None], here: Container[str]) -> str | None:
    if version not in releases:
        return f"{version} is no longer known"
    if (bar := releases[version]) is not None:
        return f"{version} is barred: {bar}"
    return None if version in here else f"the bundle of {version} is no longer on this machine"


def _named_target(
    history: Sequence[str], releases: Mapping[str, str | None], present: str, wanted: str, here: Container[str]
) -> RollbackTarget | Refusal:
    if wanted not in releases:
        return Refusal(f"there is no release {wanted}", "`noria releases` lists them.")
    if wanted == present:
        return Refusal(f"{wanted} already serves", "`noria status` shows what serves where.")
    if (why := _unfit(wanted, releases, here)) is not None:
        if releases[wanted] is not None:
            return Refusal(why, f"`noria release lift {wanted}` lifts the bar; `noria promote {wanted}` does both.")
        return Refusal(why, f"It was collected or erased. `noria reproduce {wanted}` rebuilds it from its record.")
    if wanted not in history:
        return RollbackTarget(wanted, f"{wanted} was asked for; it never served here")
    return RollbackTarget(wanted, f"{wanted} was asked for")
