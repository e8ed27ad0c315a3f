"""Names that modules had before the rooms: pickled models name the modules of their classes, and bundles are never rewritten."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER = {
    "noria.adapters.frameworks.bare": "noria.models.frameworks.bare",
    "noria.adapters.frameworks.catboost": "noria.models.frameworks.catboost",
    "noria.adapters.frameworks.statsmodels": "noria.models.frameworks.statsmodels",
    "noria.adapters.frameworks.torch": "noria.models.frameworks.torch",
    "noria.adapters.graph_outputs": "noria.models.graph_outputs",
    "noria.domain.signature": "noria.models.signature",
}
PACKAGES = {"noria.adapters", "noria.adapters.frameworks", "noria.domain"}


class FormerModules:
    """Finds a module by its former name: the module itself, not a copy, so that its classes are the same ones."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in FORMER or name in PACKAGES:
            return ModuleSpec(name, cls(), is_package=name in PACKAGES)  # type: ignore[arg-type]  # a loader by its methods
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual empty one, which is put aside below."""

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in FORMER:
            sys.modules[module.__name__] = importlib.import_module(FORMER[module.__name__])


def install() -> None:
    """Asked last of all finders: whatever is there by its present name is found without this one."""
    if FormerModules not in sys.meta_path:
        sys.meta_path.append(FormerModules)
