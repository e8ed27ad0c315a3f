"""Records that hold secrets: what is printed of one leaves them out."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class RedactedRecord(msgspec.Struct, frozen=True):
    """A record whose ``repr``, in a log or a trace, leaves out the fields named in ``unshown``."""

    unshown: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.unshown]
