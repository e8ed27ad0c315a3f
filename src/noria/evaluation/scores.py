"""What a release says to the held-out rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from noria.releases.release import Release

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Scores(msgspec.Struct, frozen=True):
    predictions: NDArray[np.float64] | None
    note: str  # why there are none
    called: NDArray[np.intp] | None = None  # the classes by the release's own rule; None: the likeliest


class ComparedRelease(msgspec.Struct, frozen=True):
    """Another release, and what it says to the same rows."""

    release: Release
    scores: Scores
