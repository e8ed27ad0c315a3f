"""What a person writes for a turn: its number, or its id."""

from __future__ import annotations

from noria.kernel.errors import NotFoundError
from noria.pipeline.turn_record import Turn
from noria.pipeline.turn_store import TurnStore
from noria.releases.store import PREFIX, ReleaseStore
from noria.storage.ledger import Ledger


def find_turn(ledger: Ledger, project: str, ref: str) -> Turn | None:
    """The turn that ``ref`` names; None for a ref of another kind. Raises NotFoundError for a turn that there is not.

    A turn's number comes first. Digits that are none may begin a release's digest: one beginning of 12 in 300 has no letter.
    """
    if not ref.isdigit() and not ref.startswith("turn-"):
        return None
    found = TurnStore(ledger, project).find(ref)
    if found is None and not (PREFIX.fullmatch(ref) and _begins_a_digest(ledger, project, ref)):
        raise NotFoundError(f"there is no turn {ref}", hint="`noria runs` lists the turns.")
    return found


def _begins_a_digest(ledger: Ledger, project: str, digits: str) -> bool:
    return any(release.digest.startswith(digits) for release in ReleaseStore(ledger, project).list())
