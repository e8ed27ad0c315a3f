"""Number 27: every YAML file is read by the one careful reader, in which `no` and `on` are words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import noria
from noria.kernel.errors import ConfigError, UsageError
from noria.models import foreign_model
from noria.pipeline import recording

SIGNATURE = """\
task: binary
classes: [no, yes]
key: customer_id
inputs:
  - {name: age, type: number, low: 18, high: 99}
  - {name: on, type: number}
"""


def test_the_signature_of_the_docs_means_what_it_says(tmp_path: Path) -> None:
    """`classes: [no, yes]` gave 0 and 1."""
    path = tmp_path / "signature.yaml"
    path.write_text(SIGNATURE)
    found = foreign_model._read_description(str(path))
    assert found is not None
    assert (found.classes, [told.name for told in found.inputs]) == (["no", "yes"], ["age", "on"])
    for text, said in (
        ("task: binary\ntask: regression\ninputs: []\n", "given twice"),
        ("inputs: 3\n", "is no signature"),
        ("a: [", "not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            foreign_model._read_description(str(path))


def test_metrics_of_a_yaml_file(tmp_path: Path) -> None:
    """Numbers are numbers, and words are none, however they look."""
    assert recording.numbers(b"loss: 1e-3\nfold: {a: 2}\non: no\nwhen: 12:30\n", "m.yaml") == {"loss": 0.001, "fold.a": 2.0}
    with pytest.raises(ConfigError, match="given twice"):
        recording.numbers(b"a: 1\na: 2\n", "m.yaml")


def test_nobody_else_reads_yaml() -> None:
    """A second reader would read other things."""
    folder = Path(noria.__file__).parent
    reading = re.compile(r"yaml\.(safe_load|load|full_load|compose|parse|decode)\b")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if reading.search(path.read_text())}
    assert found == {"config/document.py"}
