"""The rule by which labels find their predictions is written once, beside the tests of the log."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "predictions"))
