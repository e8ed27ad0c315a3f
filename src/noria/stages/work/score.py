"""Score held-out rows through a release's sealed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from noria.adapters.asking import Frames
from noria.domain.release import Form
from noria.domain.signature import Signature
from noria.stages.work import columns, forms

SCORES = "scores.npy"


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Leaves ``scores.npy`` in ``folder``: float64, see ``forms`` for the shapes.

    The job: ``bundle`` (a folder with manifest.json and the model), ``rows`` (an Arrow file), ``folder``.
    Raises DataError when the rows lack a column that this release takes.
    """
    bundle = Path(job["bundle"])
    manifest = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    signature = msgspec.convert(manifest["signature"], Signature)
    rows = columns.frame(pl.read_ipc(job["rows"]), signature.inputs)
    scores = sealed_form(bundle, manifest, signature).predict(rows)
    np.save(Path(job["folder"]) / SCORES, scores, allow_pickle=False)
    return {"rows": rows.height}


def sealed_form(bundle: Path, manifest: dict[str, Any], signature: Signature) -> forms.Form:
    """The model as the server would load it."""
    path = bundle / manifest["model"]["file"]
    if manifest["form"] == Form.COMPILED:
        return forms.Compiled(path, signature)
    hosted = manifest.get("hosted", {})
    return forms.Original.load(path, hosted.get("features"), signature, msgspec.convert(hosted.get("frames", {}), Frames))
