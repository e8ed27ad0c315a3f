"""The signing key: Ed25519 by the published vectors, made once, and every damage told before anything is signed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from noria.kernel.errors import RefusedError, StoreError
from noria.releases import signing

RFC_8032 = [  # section 7.1: secret key, public key, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_rfc_8032(tmp_path: Path, secret: str, public: str, message: str, signature: str) -> None:
    (tmp_path / signing.KEY).write_text(f"{secret}\n")
    data = bytes.fromhex(message)
    assert signing.public_key(tmp_path) == public
    assert signing.sign(tmp_path, data).hex() == signature
    assert signing.verify(public, data, bytes.fromhex(signature))
    assert signing.known_keys(tmp_path) == (public,)


def test_no_bit_of_data_signature_or_key_may_differ() -> None:
    _, public, message, signature = RFC_8032[1]
    data, signed, key = (bytes.fromhex(text) for text in (message, signature, public))
    for at in range(len(signed) * 8):
        changed = bytearray(signed)
        changed[at // 8] ^= 1 << at % 8
        assert not signing.verify(public, data, bytes(changed))
    for at in range(256):
        other = bytearray(key)
        other[at // 8] ^= 1 << at % 8
        assert not signing.verify(bytes(other).hex(), data, signed)
    for text in (b"", b"r\0", b"s"):
        assert not signing.verify(public, text, signed)


@pytest.mark.parametrize("public", ["", "x", "00", "g" * 64, "ab" * 31, "ab" * 33])
def test_a_malformed_key_or_signature_verifies_nothing(public: str) -> None:
    assert not signing.verify(public, b"", b"")
    assert not signing.verify(RFC_8032[0][1], b"", b"short")


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = signing.sign(state, b"x")
    assert signing.sign(state, b"x") == first
    assert (state / signing.KEY).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in state.iterdir()) == [signing.KEY, signing.PUBLIC]
    assert signing.verify(signing.public_key(state), b"x", first)
    assert signing.missing(state) == ""


def test_many_who_make_it_at_once_make_one(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(signing.public_key(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_lost_key_is_never_replaced_in_silence(tmp_path: Path) -> None:
    old = signing.public_key(tmp_path)
    signed = signing.sign(tmp_path, b"x")
    (tmp_path / signing.KEY).unlink()
    with pytest.raises(StoreError, match="the signing key is missing: nothing can be signed") as caught:
        signing.sign(tmp_path, b"x")
    assert caught.value.hint == signing.BACK
    assert signing.missing(tmp_path) == caught.value.message
    new = signing.make_new(tmp_path)
    assert signing.known_keys(tmp_path) == (new, old)
    assert new != old
    assert signing.verify(old, b"x", signed)
    with pytest.raises(RefusedError, match="the signing key is not lost"):
        signing.make_new(tmp_path)


def test_releases_without_a_key_say_that_one_was_there(tmp_path: Path) -> None:
    (tmp_path / signing.RELEASES).mkdir()
    assert signing.missing(tmp_path) == "", "an empty folder was signed by nobody"
    (tmp_path / signing.RELEASES / "v1").mkdir()
    with pytest.raises(StoreError, match="the signing key is missing"):
        signing.public_key(tmp_path)
    with pytest.raises(StoreError, match="the public signing key is missing: no release can be verified"):
        signing.known_keys(tmp_path)


def test_another_key_under_the_old_public_half_is_refused(tmp_path: Path) -> None:
    signing.public_key(tmp_path)
    (tmp_path / signing.KEY).write_text(RFC_8032[0][0])
    with pytest.raises(StoreError, match=r"signing\.key is not the key whose public half is in signing\.pub"):
        signing.sign(tmp_path, b"x")


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 64, b"ab" * 31, b"ab" * 33, b"\xff" * 64, b"ab" * 32 + b" zz"])
def test_a_damaged_private_key_is_told(tmp_path: Path, content: bytes) -> None:
    signing.public_key(tmp_path)
    (tmp_path / signing.KEY).write_bytes(content)
    with pytest.raises(StoreError, match="the signing key cannot be read: "):
        signing.sign(tmp_path, b"x")
    with pytest.raises(StoreError, match="the signing key cannot be read: "):
        signing.make_new(tmp_path)
    assert (tmp_path / signing.KEY).read_bytes() == content, "it may be what somebody can still mend"


@pytest.mark.parametrize("content", [b"", b"\n", b"AB" * 32, b"ab" * 31, b"ab" * 32 + b"\nzz\n", b"\xff" * 64])
def test_a_damaged_public_key_is_told(tmp_path: Path, content: bytes) -> None:
    signing.public_key(tmp_path)
    (tmp_path / signing.PUBLIC).write_bytes(content)
    with pytest.raises(StoreError, match=r"the public signing key (is damaged|cannot be read): no release can be verified"):
        signing.known_keys(tmp_path)
    assert signing.missing(tmp_path)


def test_the_public_half_is_written_again_from_the_private_one(tmp_path: Path) -> None:
    public = signing.public_key(tmp_path)
    (tmp_path / signing.PUBLIC).unlink()
    assert signing.known_keys(tmp_path) == (public,)
    assert not (tmp_path / signing.PUBLIC).exists(), "whoever only verifies writes nothing"
    assert signing.public_key(tmp_path) == public
    assert (tmp_path / signing.PUBLIC).read_text() == f"{public}\n"
