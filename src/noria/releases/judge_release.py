"""May this work become a release? And is it the work of a release that was barred?"""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from noria.kernel import names
from noria.kernel.pins import Pins
from noria.kernel.verdict import Outcome, Reason, Verdict, combine


def may_release(pins: Pins) -> Verdict:
    """A release must be rebuildable: its code has to be a commit, whole and clean."""
    if pins.commit is None:
        text = "there is no commit that identifies the code: measured, not released"
        return combine((Reason("release.no_commit", text, Outcome.FAIL),))
    if pins.dirty is not None:
        text = "the tree has uncommitted changes: measured, not released"
        return combine((Reason("release.dirty", text, Outcome.FAIL),))
    return combine((Reason("release.clean", f"commit {pins.commit[:10]} is clean"),))


def pins_identity(pins: Pins) -> str:
    """The digest of everything but the environment: a patched machine makes no barred work good again."""
    facts = {name: value for name, value in msgspec.to_builtins(pins).items() if name != "environment"}
    return names.digest_bytes(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())


def bar_reason(pins: Pins, barred_pins: Mapping[str, tuple[str, str]]) -> Reason | None:
    """Why this work may not go out again, or None. ``barred_pins``: identity of the pins -> version and reason."""
    found = barred_pins.get(pins_identity(pins))
    if found is None:
        return None
    version, why = found
    return Reason("release.barred", f"the same commit, data and parameters made {version}, which is barred: {why}", Outcome.FAIL)
