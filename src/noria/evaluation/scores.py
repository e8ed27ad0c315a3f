"""A release's scores on the held-out rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from noria.releases.release import Release

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


CANDIDATE = "candidate"  # its name beside the releases that it is compared with


class Scores(msgspec.Struct, frozen=True):
    predictions: NDArray[np.float64] | None
    note: str  # why there are none
    called: NDArray[np.intp] | None = None  # the classes by the release's own rule; None: the likeliest
    digest: str = ""  # of the file of predictions; empty where there are none


class ComparedRelease(msgspec.Struct, frozen=True):
    """Another release, and its scores on the same rows."""

    release: Release
    scores: Scores
