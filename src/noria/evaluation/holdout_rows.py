"""Which rows a candidate is measured on, whatever pipeline made their columns: by their key, else by time and label."""

from __future__ import annotations

import polars as pl

from noria.config import Model
from noria.evaluation.records import HoldoutRows
from noria.kernel import names
from noria.models.split import contents
from noria.pipeline.context import PinnedRun
from noria.releases.packaging import Package
from noria.releases.release import ServedForm
from noria.stats.row_sketch import sketch


def holdout_rows(pinned_run: PinnedRun, package: Package, key: bytes) -> HoldoutRows:
    """The held-out rows of a candidate, and what the candidate is: its model, its signature, and its code if that runs, too.

    ``key``: of the hashes by which rows are known.
    """
    model = pinned_run.project.model
    assert model is not None
    rows = pl.read_ipc(package.holdout)
    code = pinned_run.tree_id if package.form is ServedForm.HOSTED else ""
    identity = names.digest_bytes(f"{package.model}\n{package.signature}\n{code}".encode())
    known = _identities(rows, model)
    keyed, unkeyed = (tuple(sketch(known, pinned_run.project.name, one).tolist()) for one in (key, b""))
    return HoldoutRows(identity, rows.height, keyed, keyed=True, unkeyed=unkeyed)


def _identities(rows: pl.DataFrame, model: Model) -> list[str]:
    """A text for each row. A changed column does not make another row where there is a key or an event time."""
    if model.key is not None:
        return [str(value) for value in rows[model.key].to_list()]
    if model.event_time is None:
        return contents(rows).to_list()
    pairs = rows.select(pl.col(model.event_time).cast(pl.String), pl.col(model.label).cast(pl.String))
    return [f"{at}\n{label}" for at, label in pairs.iter_rows()]
