"""Blobs: whole or not at all, verified, never shared with a file that a person can edit."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from noria.errors import CorruptBlobError, NotFoundError, StoreError
from noria.store.blobs import BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_a_blob_is_found_by_its_content(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(os.urandom(3_000_000))
    digest = blobs.put_file(source)
    assert digest == blake3(source.read_bytes()).hexdigest()
    assert blobs.put_bytes(source.read_bytes()) == digest
    assert blobs.read(digest) == source.read_bytes()
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


def test_editing_the_source_or_a_copy_leaves_the_blob(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("one")
    digest = blobs.put_file(source)
    copy = tmp_path / "out" / "a.txt"
    blobs.materialise(digest, copy)
    source.write_text("two")
    copy.write_text("three")
    assert blobs.read(digest) == b"one"


def test_damage_is_found_and_named(blobs: BlobStore) -> None:
    digest = blobs.put_bytes(b"precious" * 1000)
    place = blobs.path(digest)
    place.chmod(0o644)
    data = bytearray(place.read_bytes())
    data[4000] ^= 1
    place.write_bytes(bytes(data))
    with pytest.raises(CorruptBlobError, match=digest[:12]):
        blobs.path(digest)
    with pytest.raises(CorruptBlobError):
        blobs.read(digest)


@pytest.mark.parametrize("wicked", ["../../etc/passwd", "", "AB" * 32, "a" * 63, "/" + "a" * 63])
def test_only_digests_name_blobs(blobs: BlobStore, wicked: str) -> None:
    with pytest.raises(StoreError):
        blobs.path(wicked)


def test_a_blob_that_is_not_there(blobs: BlobStore) -> None:
    with pytest.raises(NotFoundError):
        blobs.read("0" * 64)


FULL = """
import resource, sys
from pathlib import Path
from noria.errors import DiskFullError
from noria.store.blobs import BlobStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = BlobStore(Path(sys.argv[1]))
for put in (lambda: store.put_bytes(b"x" * 200_000), lambda: store.put_file(Path(sys.argv[2]))):
    try:
        put()
    except DiskFullError as error:
        print("full:", error.message)
"""


def test_a_full_disk_keeps_nothing_half(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"y" * 300_000)
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "b"), str(big)], capture_output=True, text=True, check=True)
    assert done.stdout.count("full: the disk is full") == 2
    assert [p for p in (tmp_path / "b").rglob("*") if p.is_file()] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
