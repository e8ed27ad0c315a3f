"""What a host says of what the code in it raised."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from noria.serving.host import explain


def test_a_library_that_is_missing_is_named_with_the_way_out() -> None:
    """Number 18: a model of a library that the serving machine lacks says so, and what to do."""
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module("library_of_nobody")
    said = explain(raised.value, Path("/nowhere"))
    assert said == (
        "ModuleNotFoundError: No module named 'library_of_nobody'; "
        "install what has library_of_nobody in the environment that serves it"
    )
    assert explain(KeyError("ANC"), Path("/nowhere")) == "KeyError: 'ANC'"
