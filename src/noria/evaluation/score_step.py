"""The step that scores held-out rows with a release's sealed form."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from noria.models import columns, forms
from noria.models.python_model import TableKinds, load_tables
from noria.models.signature import Signature
from noria.releases.bundle import Manifest, lay_out_code, read_manifest
from noria.releases.release import ServedForm

SCORES = "scores.npy"
CALLED = "called.npy"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Leaves ``scores.npy`` in ``folder``: float64, see ``forms`` for the shapes; where a rule decides,
    also ``called.npy``, the places of the classes that each row is called.

    The job: ``bundle`` (a folder with manifest.json and the model), ``rows`` (an Arrow file), ``folder``.
    Raises DataError when the rows lack a column that this release takes.
    """
    form, rows, signature = _open_job(job)
    np.save(Path(job["folder"]) / SCORES, form.predict(rows), allow_pickle=False)
    if signature.decision is not None:
        np.save(Path(job["folder"]) / CALLED, form.called_classes(rows), allow_pickle=False)
    return {"rows": rows.height}


def _open_job(job: dict[str, Any]) -> tuple[forms.Form, pl.DataFrame, Signature]:
    """The sealed form, and the rows as it takes them."""
    bundle = Path(job["bundle"]).resolve()
    manifest = read_manifest(bundle)
    if manifest.hosted is not None:
        enter(bundle, Path(job["folder"]) / "code", manifest.hosted.paths)
    rows = columns.frame(pl.read_ipc(job["rows"]), manifest.signature.inputs)
    return sealed_form(bundle, manifest), rows, manifest.signature


def enter(bundle: Path, copy: Path, paths: Sequence[str]) -> None:
    """Changes into a copy of the sealed code, as a host process does."""
    lay_out_code(bundle, copy)
    os.chdir(copy)
    found = [str((copy / path).resolve()) for path in paths]
    sys.path[:0] = found
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*found, os.environ.get("PYTHONPATH")]))
    importlib.invalidate_caches()


def sealed_form(bundle: Path, manifest: Manifest) -> forms.Form:
    """The model as the server would load it."""
    path = bundle / manifest.model.file
    if manifest.form is ServedForm.COMPILED:
        return forms.Compiled(path, manifest.signature)
    kinds = msgspec.convert(manifest.frames, TableKinds)
    tables = load_tables({name: bundle / one.file for name, one in manifest.also.items()})
    return forms.Original.load(path, manifest.features, manifest.signature, kinds, manifest.feature_params, tables)
