"""A signing key that is lost, or was replaced, is never replaced in silence."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria import cli
from noria.delivery.driver import Embedded
from noria.kernel.errors import RefusedError, StoreError
from noria.kernel.task import Task
from noria.models.signature import Input, Kind, Signature
from noria.releases import bundle, signing
from noria.releases.bundle import Manifest, ModelFacts
from noria.releases.release import ServedForm
from noria.serving.client import Server
from noria.serving.route import Route
from noria.storage.ledger import Ledger


def release(state: Path) -> str:
    """A bundle of nothing but an empty model; its digest."""
    folder = state / "aside"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"")
    signature = Signature((Input("a", Kind.NUMBER),), Task.REGRESSION)
    manifest = Manifest(1, "p", ServedForm.COMPILED, signature, ModelFacts("model.onnx"))
    digest = bundle.seal(folder, state, bundle.complete_manifest(folder, manifest))
    (state / "releases").mkdir(exist_ok=True)
    folder.rename(state / "releases" / digest)
    return digest


def test_a_missing_key_is_an_error_and_no_key_is_made(tmp_path: Path) -> None:
    """Number 48: another key was made, and every release was "damaged"."""
    digest = release(tmp_path)
    (tmp_path / signing.KEY).unlink()
    for ask in (lambda: signing.sign(tmp_path, b"x"), lambda: signing.public_key(tmp_path)):
        with pytest.raises(StoreError, match="the signing key is missing: nothing can be signed") as raised:
            ask()
        assert "noria audit new-key" in (raised.value.hint or "")
    assert not (tmp_path / signing.KEY).exists()
    assert "is missing" in signing.missing(tmp_path)
    verified = bundle.open_bundle(tmp_path / "releases" / digest, signing.known_keys(tmp_path))
    assert verified.digest == digest, "the public half is enough to verify and to serve"
    (tmp_path / signing.PUBLIC).unlink()
    with pytest.raises(StoreError, match="the signing key is missing"):
        signing.sign(tmp_path, b"x")
    with pytest.raises(StoreError, match="the public signing key is missing"):
        signing.known_keys(tmp_path)


def test_another_key_in_its_place_is_told(tmp_path: Path) -> None:
    """Number 48: signing.pub followed whatever signing.key was there."""
    release(tmp_path)
    before = (tmp_path / signing.PUBLIC).read_text()
    signing.sign(tmp_path / "other", b"x")
    (tmp_path / "other" / signing.KEY).replace(tmp_path / signing.KEY)
    with pytest.raises(StoreError, match="one of them was replaced"):
        signing.sign(tmp_path, b"x")
    assert (tmp_path / signing.PUBLIC).read_text() == before


def test_a_new_key_is_made_when_it_is_asked_for_and_old_releases_stay_valid(tmp_path: Path) -> None:
    """Number 48: the way out."""
    digest = release(tmp_path)
    with pytest.raises(RefusedError, match="not lost"):
        signing.make_new(tmp_path)
    (old,) = signing.known_keys(tmp_path)
    (tmp_path / signing.KEY).unlink()
    new = signing.make_new(tmp_path)
    assert signing.known_keys(tmp_path) == (new, old)
    assert stat.S_IMODE((tmp_path / signing.KEY).stat().st_mode) == 0o600
    assert signing.verify(new, b"x", signing.sign(tmp_path, b"x"))
    assert signing.public_key(tmp_path) == new
    assert bundle.open_bundle(tmp_path / "releases" / digest, signing.known_keys(tmp_path)).key == old
    assert signing.missing(tmp_path) == ""


def test_a_rollback_without_a_server_asks_whether_the_release_could_be_served(tmp_path: Path) -> None:
    """Number 48: it reported success, and the next start served nothing."""
    digest = release(tmp_path)
    driver = Embedded(Server(tmp_path))
    route = Route("p", "production", 1, digest, "v1")
    assert driver.load(digest) == driver.set_routes(route) == ""
    (tmp_path / "releases" / digest / "added.py").write_text("")
    assert "added.py is not part of the release" in driver.load(digest)
    (tmp_path / "releases" / digest / "added.py").unlink()
    (tmp_path / signing.PUBLIC).unlink()
    (tmp_path / signing.KEY).unlink()
    assert "the public signing key is missing" in driver.set_routes(route)


@pytest.fixture
def noria(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    (tmp_path / "noria.yaml").write_text("project: p\n")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> Any:
        found = cli.execute([*arguments, "--json"])
        out = capsys.readouterr().out
        assert found == code, out
        return json.loads(out)

    return run


def test_doctor_names_a_missing_key_and_the_command_makes_one(tmp_path: Path, noria: Callable[..., Any]) -> None:
    """Number 48: what a person does."""
    state = tmp_path / ".noria"
    Ledger.open(state).close()
    release(state)
    assert noria("audit", "new-key", code=1)["error"]["message"] == "the signing key is not lost"
    (state / signing.KEY).unlink()
    checks = {check["name"]: check for check in noria("doctor", code=1)["checks"]}
    assert checks["signing.key"]["state"] == "fail"
    assert "new-key" in checks["signing.key"]["advice"]
    made = noria("audit", "new-key")
    assert made["key"] == signing.known_keys(state)[0]
    assert [event["kind"] for event in noria("audit", "log")["events"]] == ["key.made"]
    assert all(check["state"] != "fail" for check in noria("doctor")["checks"] if check["name"] == "signing.key")
    (state / signing.KEY).unlink()
    (state / signing.PUBLIC).unlink()
    assert "releases that it sealed cannot be verified any more" in noria("audit", "new-key")["text"]
