"""A bundle that was tampered with is refused by control plane and data plane alike, before anything of it runs."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.kernel import names
from noria.kernel.errors import StoreError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.releases import bundle, signing
from noria.releases.bundle import MANIFEST, SEAL, Manifest, ModelFacts, open_bundle, open_release
from noria.releases.release import Release, ServedForm
from noria.releases.signing import known_keys
from noria.serving import host

SIGNATURE = Signature(inputs=(Input("a", Kind.NUMBER),), task=Task.BINARY, classes=("0", "1"))
FILES = {
    "model.joblib": "a model",
    "golden.json": "{}",
    "code/work.py": "x = 1\n",
    "code/deep/er.py": "y = 2\n",
    "evidence/gate.json": "{}",
}


pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child does nothing but erase, and is killed


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A bundle with a link; its state folder is above."""
    folder = tmp_path / "state/releases/fresh"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "code/again.py").symlink_to("deep/er.py")
    return seal(folder, {"code/again.py": "deep/er.py"})


def seal(folder: Path, links: dict[str, str]) -> Path:
    from msgspec import json

    facts = {
        "format": 1,
        "project": "p",
        "form": "hosted",
        "signature": SIGNATURE,
        "model": {"file": "model.joblib", "runtime": "python"},
        "files": {name: names.digest_bytes(text.encode()) for name, text in FILES.items()},
        "links": links,
    }
    content = json.encode(facts)
    state = folder.parent.parent
    folder.parent.rename(state / "aside")  # no key is made where releases are
    signature = signing.sign(state, content)
    (state / "aside").rename(folder.parent)
    (folder / MANIFEST).write_bytes(content)
    (folder / SEAL).write_bytes(signature)
    return folder.rename(folder.with_name(names.digest_bytes(content)))


def refusals(folder: Path) -> tuple[str, str]:
    """What each plane says of it."""
    state = folder.parent.parent
    release = Release("v1", folder.name, "p", "run-1", None, ServedForm.HOSTED, 0.0, None, {})
    with pytest.raises(StoreError) as control:
        open_release(folder, release, signing.known_keys(state))
    with pytest.raises(StoreError) as data:
        open_bundle(folder, known_keys(state), folder.name)
    return control.value.message, data.value.message


def test_a_whole_bundle_is_accepted_by_both(sealed: Path) -> None:
    keys = signing.known_keys(sealed.parent.parent)
    assert open_bundle(sealed, known_keys(sealed.parent.parent), sealed.name).digest == sealed.name
    assert bundle.open_bundle(sealed, keys).links == {"code/again.py": "deep/er.py"}


def moved(folder: Path, name: str) -> Path:
    """Something of the bundle, moved out of it."""
    target = folder.parent.parent / "elsewhere"
    (folder / name).rename(target)
    return target


def put(name: str, text: str = "raise SystemExit('it ran')\n") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return change


def linked(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(moved(folder, name))


ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code that Python imports by itself": (put("code/sitecustomize.py"), "code/sitecustomize.py is not part of the release"),
    "bytecode": (put("code/__pycache__/work.cpython-312.pyc"), "work.cpython-312.pyc is not part of"),
    "a module that shadows": (put("code/deep/polars.py"), "polars.py is not part of"),
    "beside the model": (put("model.onnx"), "model.onnx is not part of"),
    "more evidence": (put("evidence/approval.json"), "approval.json is not part of"),
    "changed code": (put("code/work.py", "x = 2\n"), "code/work.py was changed"),
    "code is missing": (lambda f: (f / "code/work.py").unlink(), "code/work.py is missing"),
    "a linked model": (linked("model.joblib"), "model.joblib is a link"),
    "linked weights": (lambda f: (f / "model.joblib.data").symlink_to("/etc/hostname"), "model.joblib.data is a link"),
    "a linked module": (linked("code/work.py"), "code/work.py is a link"),
    "a linked folder": (linked("code/deep"), "code/deep is a link"),
    "all code is a link": (linked("code"), "code is a link"),
    "a linked manifest": (linked(MANIFEST), "manifest.json cannot be read"),
    "a link elsewhere": (lambda f: _relink(f, "work.py"), "again.py is a link and was not sealed as one"),
    "a link is missing": (lambda f: (f / "code/again.py").unlink(), "again.py is missing"),
    "a link that is a file": (lambda f: _as_file(f), "again.py is not part of"),
    "a pipe": (lambda f: (moved(f, "code/work.py"), os.mkfifo(f / "code/work.py")), "not a regular file"),
    "erased without a word": (
        lambda f: (f / bundle.ERASED).write_text('{"release":"x","files":["code/work.py"]}'),
        "erased.json",
    ),
    "an empty seal": (lambda f: (f / SEAL).write_text(""), "signature"),
    "another manifest": (put(MANIFEST, "{}"), "signature"),
}


def _relink(folder: Path, target: str) -> None:
    (folder / "code/again.py").unlink()
    (folder / "code/again.py").symlink_to(target)


def _as_file(folder: Path) -> None:
    (folder / "code/again.py").unlink()
    (folder / "code/again.py").write_text(FILES["code/deep/er.py"])


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_tampered_with_is_refused_by_both_planes(sealed: Path, attack: str) -> None:
    """Numbers 5 and 45: one verifier, the strict one."""
    change, words = ATTACKS[attack]
    change(sealed)
    control, data = refusals(sealed)
    assert words in control
    assert words in data
    assert control.startswith("v1 is damaged: ")
    assert control.endswith(data)


def test_a_signed_erasure_lets_files_be_gone_and_no_others(sealed: Path) -> None:
    """Number 1: an erasure is signed, and says which release and which files it is about."""
    state = sealed.parent.parent
    bundle.erase(sealed, state, ["code/work.py"])
    assert bundle.open_bundle(sealed, signing.known_keys(state)).erased == ("code/work.py",)
    bundle.erase(sealed, state, ["evidence/gate.json"])
    assert len(bundle.open_bundle(sealed, signing.known_keys(state)).erased) == 2
    put("code/work.py")(sealed)
    assert "code/work.py was changed" in refusals(sealed)[0]
    put("code/work.py", FILES["code/work.py"])(sealed)
    assert "code/work.py" not in bundle.open_bundle(sealed, signing.known_keys(state)).files
    word = (sealed / bundle.ERASED).read_bytes()
    (sealed / bundle.ERASED).write_bytes(word.replace(b"code/work.py", b"code/deep/er.py"))
    assert "erased.json is not what was signed" in refusals(sealed)[0]


def test_an_erasure_that_is_killed_leaves_the_bundle_whole(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the erasure was writing lay in the bundle, which was refused from then on: it was added."""
    state = sealed.parent.parent
    signing.public_key(state)
    for step in ("fsync", "replace", "unlink"):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(os, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            bundle.erase(sealed, state, ["code/work.py"])
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        open_bundle(sealed, known_keys(state), sealed.name)
    bundle.erase(sealed, state, ["code/work.py"])
    assert open_bundle(sealed, known_keys(state), sealed.name).erased == ("code/work.py",)
    assert not (sealed / "code/work.py").exists()


def test_a_host_loads_no_other_release_than_it_was_started_for(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole, signed bundle under another one's name is not that one: an older release could be put in a newer one's place."""
    state = sealed.parent.parent
    wanted = "f" * 64
    sealed.rename(sealed.with_name(wanted))
    monkeypatch.setattr(host, "die_with_parent", lambda: None)
    monkeypatch.setattr(host.signal, "signal", lambda *_: None)
    monkeypatch.setattr(host, "enter", lambda *_: pytest.fail("its code was to be run"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the host puts its own in its place
    read, write = os.pipe()
    assert host.main([str(state), str(sealed.with_name(wanted)), str(state / "h.sock"), str(write)]) == 1
    with os.fdopen(read) as told:
        said = told.read()
    assert f"its manifest is that of release {names.short(sealed.name)}, not of {names.short(wanted)}" in said


def stranger(folder: Path, links: dict[str, str]) -> Path:
    facts = Manifest(1, "p", ServedForm.HOSTED, SIGNATURE, ModelFacts("model.joblib"), links=links)
    bundle.write_manifest(folder, facts)
    return folder


@pytest.mark.parametrize("target", ["../../../signing.key", "/etc/passwd", "again.py"])
def test_a_stranger_s_manifest_cannot_make_links_that_leave(tmp_path: Path, target: str) -> None:
    """Number 45: what a signed manifest lists is judged before a link is made."""
    with pytest.raises(StoreError, match=r"again\.py is a link that leads to"):
        bundle.make_links(stranger(tmp_path, {"code/again.py": target}))
    with pytest.raises(StoreError, match="outside the code"):
        bundle.make_links(stranger(tmp_path, {"evidence/x": "gate.json"}))
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_a_copied_bundle_stays_whole(sealed: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed, tmp_path / "copy", symlinks=True)
    assert bundle.open_bundle(tmp_path / "copy", signing.known_keys(sealed.parent.parent), sealed.name).digest == sealed.name
