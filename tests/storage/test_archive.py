"""Archives: what goes in comes out, equal content has equal bytes, no changed byte goes unnoticed, no name leaves the folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel.errors import DataError
from noria.kernel.names import digest_bytes
from noria.storage import archive
from noria.storage.file_names import safe_path

PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=60).filter(
    lambda part: part not in (".", "..") and len(part.encode()) <= 255
)
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
FILES = st.dictionaries(NAMES, st.tuples(st.binary(max_size=2000), st.booleans()), max_size=6)


def packed(files: dict[str, tuple[bytes, bool]]) -> bytes:
    out = io.BytesIO()
    writer = archive.Writer(out)
    for name, (content, executable) in files.items():
        assert writer.add(name, io.BytesIO(content), len(content), executable) == digest_bytes(content)
    writer.end()
    return out.getvalue()


def unpacked(data: bytes) -> dict[str, tuple[bytes, bool]]:
    return {m.name: (m.content.read(), m.executable) for m in archive.members(io.BytesIO(data))}


@given(FILES)
def test_what_goes_in_comes_out_and_tar_reads_it_too(files: dict[str, tuple[bytes, bool]]) -> None:
    data = packed(files)
    assert unpacked(data) == files
    assert packed(files) == data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == list(files)


@given(FILES, st.data())
def test_a_changed_byte_is_noticed(files: dict[str, tuple[bytes, bool]], choose: st.DataObject) -> None:
    """By the reader, or by the digests of what it reads."""
    data = bytearray(packed(files))
    at = choose.draw(st.integers(0, len(data) - 1))
    data[at] ^= choose.draw(st.integers(1, 255))
    try:
        found = unpacked(bytes(data))
    except DataError:
        return
    assert {n: digest_bytes(c) for n, (c, _) in found.items()} != {n: digest_bytes(c) for n, (c, _) in files.items()}


@pytest.mark.parametrize("at", range(148, 156))
def test_the_checksum_itself_is_written_in_one_way(at: int) -> None:
    """What a header's checksum does not cover: spaces and zeros around it, which tar reads all the same."""
    for other in set(b"\0 01:") - {packed({"a": (b"", False)})[at]}:
        data = bytearray(packed({"a": (b"", False)}))
        data[at] = other
        with pytest.raises(DataError):
            unpacked(bytes(data))


@given(FILES, st.data())
def test_an_archive_that_is_cut_short_is_refused(files: dict[str, tuple[bytes, bool]], choose: st.DataObject) -> None:
    data = packed(files)
    with pytest.raises(DataError):
        unpacked(data[: choose.draw(st.integers(0, len(data) - 1))])


@given(st.binary(max_size=3000))
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(DataError):
        unpacked(data + b"\x01")


@given(st.text(max_size=300))
def test_a_safe_name_stays_below_its_folder(name: str) -> None:
    try:
        safe = safe_path(name)
    except DataError:
        return
    root = Path("/folder/of/it")
    assert (root / safe).is_relative_to(root)
    assert ".." not in (root / safe).parts
    assert len((root / safe).parts) == len(root.parts) + len(name.split("/"))


@pytest.mark.parametrize("size", [3, 5])
def test_a_source_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(DataError, match="changed its size"):
        archive.Writer(io.BytesIO()).add("a", io.BytesIO(b"abcd"), size)


def test_names_are_bounded() -> None:
    for name in ("a" * 256, "/".join(["a" * 200] * 30)):
        with pytest.raises(DataError, match="cannot be one"):
            safe_path(name)
    huge = tarfile.TarInfo("././@LongLink")
    huge.type, huge.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    with pytest.raises(DataError, match="not a regular file"):
        unpacked(huge.tobuf(tarfile.GNU_FORMAT))
