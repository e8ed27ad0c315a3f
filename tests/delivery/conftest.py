"""The project of tests/story/small_project.py, built and released once per session; every test works on a copy."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "story"))
sys.path.append(str(Path(__file__).parents[1] / "predictions"))

from small_project_fixtures import released, small  # noqa: F401
