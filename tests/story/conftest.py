"""The project of `small_project`, built and released once per session; every test works on a copy."""

from small_project_fixtures import released, small  # noqa: F401
