"""What the stores of all rooms have in common: a ledger, and the one project whose rows they read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from noria.storage.context import StoreContext
    from noria.storage.ledger import Ledger


class BoundStore:
    """Some tables of a ledger as one project sees them. Making one costs next to nothing: nobody keeps one for long."""

    def __init__(self, ledger: Ledger, project: str) -> None:
        self.ledger, self.project = ledger, project
        self._database = ledger.database

    @classmethod
    def of(cls, context: StoreContext) -> Self:
        """The store of a context's project."""
        return cls(context.ledger, context.name)
