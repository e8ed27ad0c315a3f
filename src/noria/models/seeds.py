"""The seed of generators that code draws from without naming one; the hash seed was set when the process began."""

from __future__ import annotations

import random
import sys

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed ``random``, NumPy's global generator and, where something imported it, torch (processor and accelerators).

    A generator that code makes without a seed (``np.random.default_rng()``, ``random.Random()``) takes its own from the system.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
