"""Whether paths of a tree lie inside it, whatever links stand on their way."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from noria.kernel.errors import StepError


def demand_inside(tree: Path, paths: Iterable[str]) -> None:
    """Raises StepError for the first of these paths that a link on its way leads out of the tree: nothing is written there."""
    root = tree.resolve()
    for folder in dict.fromkeys(PurePosixPath(path).parent for path in paths):
        if not (tree / folder).resolve().is_relative_to(root):
            link = next(at for at in [*reversed(folder.parents), folder] if (tree / at).is_symlink())
            hint = "Make it a folder of the project, and commit that: a step's results are written only inside the project."
            raise StepError(f"is a link that leads out of the project, to {os.readlink(tree / link)}", where=str(link), hint=hint)
