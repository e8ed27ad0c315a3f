"""What makes up a run's identity: environment, source code, signature."""

from __future__ import annotations

import importlib.metadata
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace

from noria.kernel.errors import StoreError
from noria.pipeline import environment, judge_staleness, source_code
from noria.pipeline.judge_staleness import StepFacts
from noria.releases import signing


def test_the_record_agrees_with_importlib() -> None:
    record = environment.record()
    packages = record["packages"]
    assert isinstance(packages, dict)
    for name in ("numpy", "polars", "scikit-learn"):
        assert packages[name] == importlib.metadata.version(name)
    assert packages["noria"] == record["noria"] == importlib.metadata.version(environment.DISTRIBUTION)  # whatever it is called
    assert len(packages) >= len({d.name.lower() for d in importlib.metadata.distributions() if d.name}) - 3
    assert list(packages) == sorted(packages)


def test_the_record_is_quick() -> None:
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        environment.digest(environment.record())
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.05


def test_differences_and_digest_agree() -> None:
    before = {"python": "3.11.7", "cpus": 2, "packages": {"a": "1", "b": "1", "c": "1"}}
    after = {"python": "3.12.1", "cpus": 2, "packages": {"a": "1", "b": "2", "d": "1"}}
    assert environment.differences(before, after) == ["python 3.11.7 -> 3.12.1", "b 1 -> 2", "c 1 is gone", "d 1 is new"]
    assert environment.digest(before) != environment.digest(after)
    more_cores = {**before, "cpus": 64}
    assert environment.differences(before, more_cores) == []
    assert environment.digest(before) == environment.digest(more_cores)


def test_another_version_of_noria_is_another_environment_of_every_step() -> None:
    """Training, packaging and evaluation are its own code: what one version made does not stand for what another makes."""
    record = environment.record()
    packages = record["packages"]
    assert isinstance(packages, dict)
    later = {**record, "noria": "99.0", "packages": {**packages, "noria": "99.0"}}
    assert environment.digest(later) != environment.digest(record)
    found = StepFacts(code="c", environment=environment.digest(record))
    decided = judge_staleness.decide(replace(found, environment=environment.digest(later)), found, cached=False)
    assert (decided.run, decided.reason.code) == (True, "step.environment_changed")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    sources = {
        "delays/__init__.py": '"""A package."""\n',
        "delays/table.py": "import polars\nfrom . import shared\nfrom delays.deep.inner import helper\ndef rows(): return 1\n",
        "delays/shared.py": "import delays.table\nVALUE = 1\n",
        "delays/deep/__init__.py": "",
        "delays/deep/inner.py": "from ..shared import VALUE\nfrom ...delays import sibling\nhelper = VALUE\n",
        "delays/unrelated.py": "x = 1\n",
        "lonely.py": "def broken(:\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def closure(project: Path) -> dict[str, str]:
    return source_code.imports_closure([project], "delays.table")


def test_the_closure_is_what_is_imported_cycles_and_all(project: Path) -> None:
    assert list(closure(project)) == [
        "delays/__init__.py", "delays/deep/__init__.py", "delays/deep/inner.py", "delays/shared.py", "delays/table.py",
    ]  # fmt: skip
    assert source_code.imports_closure([project], "polars") == {}
    assert list(source_code.imports_closure([project], "lonely")) == ["lonely.py"]


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("import delays.table\n\n\n# why\nVALUE = (1)\n", False),
        ('"""Now documented."""\nimport delays.table\nVALUE = 1\n', False),
        ("import delays.table\nVALUE = 2\n", True),
        ("import delays.table\nVALUE = '1'\n", True),
    ],
)
def test_only_meaning_counts(project: Path, text: str, changed: bool) -> None:
    before = closure(project)
    (project / "delays/shared.py").write_text(text)
    (project / "delays/unrelated.py").write_text("x = 2\n")
    assert (closure(project) != before) is changed


def test_the_first_root_wins(project: Path, tmp_path: Path) -> None:
    (tmp_path / "src" / "delays").mkdir(parents=True)
    (tmp_path / "src" / "delays" / "table.py").write_text("x = 1\n")
    found = source_code.imports_closure([tmp_path / "src", project], "delays.table")
    assert found["delays/table.py"] != closure(project)["delays/table.py"]


def test_a_signature_verifies_with_the_public_key_alone(tmp_path: Path) -> None:
    signature = signing.sign(tmp_path, b"manifest")
    public = (tmp_path / "signing.pub").read_text().strip()
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, b"manifest")
    assert signing.public_key(tmp_path) == public
    assert signing.verify(public, b"manifest", signature)
    assert not signing.verify(public, b"manifest.", signature)
    assert not signing.verify(public, b"manifest", signature[:-1])
    assert not signing.verify("no key", b"manifest", signature)
    assert stat.S_IMODE((tmp_path / "signing.key").stat().st_mode) == 0o600


def test_the_key_is_made_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        signatures = set(pool.map(lambda _: signing.sign(tmp_path / "state", b"x"), range(32)))
    assert len(signatures) == 1
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["signing.key", "signing.pub"]


def test_a_broken_key_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "signing.key").write_text("garbage")
    with pytest.raises(StoreError, match="the signing key cannot be read"):
        signing.sign(tmp_path, b"x")
    assert (tmp_path / "signing.key").read_text() == "garbage"
