"""For all tests: Hypothesis judges what is computed, not how long a busy machine takes for it."""

from hypothesis import settings

settings.register_profile("noria", deadline=None)
settings.load_profile("noria")
