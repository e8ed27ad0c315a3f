"""What the references of a file's contract may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from noria.kernel.contract import ColumnReference

if TYPE_CHECKING:
    import polars as pl


class ReferencedColumn(msgspec.Struct, frozen=True):
    """``values``: those of the accepted rows, None where there are none to compare with. ``problem``: why, in words."""

    values: pl.Series | None = None
    problem: str = ""


class ReferencedValues(msgspec.Struct, frozen=True):
    """What the references of a contract may name. ``dataset``: the one that is judged, whose own rows count too."""

    dataset: str
    columns: Mapping[ColumnReference, ReferencedColumn]
