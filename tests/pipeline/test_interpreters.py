"""Interpreters made by the real uv from the real index: exact packages, digests of a lock file, what cannot be had is named."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from noria.kernel.errors import NoriaError, NotFoundError
from noria.pipeline import environment, interpreters
from noria.pipeline.executors.limits import PoolWork
from noria.pipeline.executors.pool import Pool
from noria.pipeline.interpreters import NETWORK, Lock, find_uv, lock_of, make

BLAKE3 = version("blake3")
PACKAGES = {"blake3": BLAKE3, "noria": "0.0.1"}  # blake3 is all that Noria's digests need


def record(**packages: str) -> dict[str, Any]:
    return {"python": platform.python_version(), "packages": {**PACKAGES, **packages}}


def uv(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([*find_uv(), *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in NETWORK):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A requirements file with digests, as uv writes it."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "in.txt").write_text(f"blake3=={BLAKE3}\n")
    return uv("pip", "compile", "--quiet", "--generate-hashes", "in.txt", cwd=folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, locked: str) -> Path:
    return tmp_path_factory.mktemp("interpreters")


@pytest.fixture(scope="module")
def made(root: Path) -> interpreters.Interpreter:
    return make(root, record(), None, frozenset(PACKAGES), print)


def test_it_holds_what_was_recorded_and_this_noria(made: interpreters.Interpreter) -> None:
    here = environment.record()
    assert made.made
    assert made.record["packages"] == {"blake3": BLAKE3, "noria": here["noria"]}
    assert {name: made.record[name] for name in environment.SYSTEM} == {name: here[name] for name in environment.SYSTEM}


def test_it_is_kept_by_its_digest(made: interpreters.Interpreter, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "find_uv", lambda: pytest.fail("uv was asked again"))
    again = make(root, record(noria="9.9"), None, frozenset(), print)
    assert not again.made
    assert again.python == made.python
    assert [path.name for path in root.iterdir()] == [made.python.parent.parent.name], "nothing else was left"


def test_step_processes_run_in_it(made: interpreters.Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    (tmp_path / "work.py").write_text(
        "import sys\ndef run(job): return {'prefix': sys.prefix, 'paths': [p for p in sys.path if 'elsewhere' in p]}\n"
    )
    with Pool(size=0, preload=("polars",), interpreter=made.python) as pool:
        work = PoolWork("work:run", {}, tmp_path, (tmp_path,), {}, 60.0, None, tmp_path / "log")
        done = pool.submit(work).wait()
    assert done.ok, done
    assert done.result == {"prefix": str(made.python.parent.parent), "paths": []}


def test_what_cannot_be_had_is_named_when_it_is_needed_and_left_out_when_not(tmp_path: Path, locked: str) -> None:
    wanted = record(**{"noria-no-such-package": "1.0", "blake3": BLAKE3})
    with pytest.raises(NotFoundError, match=r"are not available: noria-no-such-package==1\.0") as error:
        make(tmp_path, wanted, None, frozenset({"noria-no-such-package"}), print)
    assert "--environment same" in (error.value.hint or "")
    assert list(tmp_path.iterdir()) == [], "nothing half made"
    found = make(tmp_path, wanted, None, frozenset({"blake3"}), print)
    assert found.left_out == ("noria-no-such-package",)
    assert environment.differences(wanted, {**wanted, **found.record})[-1] == "noria-no-such-package 1.0 is gone"


def test_archives_must_have_the_digests_of_the_lock_file(tmp_path: Path, locked: str) -> None:
    (tmp_path / "requirements.txt").write_text(locked)
    lock = lock_of(tmp_path)
    assert lock is not None
    (digests,) = lock.packages["blake3"].values()
    assert make(tmp_path / "i", record(), lock, frozenset(), print).made
    tampered = Lock("requirements.txt", {"blake3": {BLAKE3: ("sha256:" + "0" * 64,)}})
    with pytest.raises(NoriaError, match=r"(?i)hash"):
        make(tmp_path / "j", record(), tampered, frozenset({"blake3"}), print)
    assert len(digests) > 5
    assert lock.against({"blake3": BLAKE3}) == []
    assert lock.against({"blake3": "0.9"}) == [f"blake3 0.9, requirements.txt says {BLAKE3}"]


def test_the_lock_files_that_uv_writes_say_the_same(tmp_path: Path, locked: str) -> None:
    project = f'[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["blake3=={BLAKE3}"]\n'
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "pyproject.toml").write_text(project)
    uv("lock", "--quiet", cwd=tmp_path / "a")
    (tmp_path / "b" / "in.txt").write_text(f"blake3=={BLAKE3}\n")
    uv("pip", "compile", "--quiet", "in.txt", "--format", "pylock.toml", "-o", "pylock.toml", cwd=tmp_path / "b")
    (tmp_path / "c" / "requirements-all.txt").write_text(locked)
    found = [lock_of(tmp_path / name) for name in ("a", "b", "c")]
    digests = [set(lock.packages["blake3"][BLAKE3]) for lock in found if lock is not None]
    assert len(digests) == 3
    assert digests[0] & digests[1] & digests[2]
    assert lock_of(tmp_path) is None
    (tmp_path / "uv.lock").write_text("not [toml")
    with pytest.raises(NoriaError, match="cannot be read"):
        lock_of(tmp_path)


def test_a_requirements_file_without_digests_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("polars>=1\nnumpy==2.1\n")
    assert lock_of(tmp_path) is None


def test_without_uv_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotFoundError, match="uv, which makes the recorded environment, is not installed") as error:
        make(tmp_path / "i", record(), None, frozenset(), print)
    assert error.value.hint == "pip install uv"


def test_what_a_project_needs_is_told_by_what_is_installed() -> None:
    needed = environment.required_distributions(["scikit-learn"], ["yaml", "no_such_module"])
    assert {"scikit-learn", "numpy", "joblib", "pyyaml", "no-such-module"} <= needed
    assert "pytest" not in needed, "of an extra"
    texts = ["python 3.11.2 -> 3.11.7", "numpy 1 -> 2", "pytest 8 -> 9"]
    assert environment.that_matter(texts, needed) == texts[:2]
