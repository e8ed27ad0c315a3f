"""Identifiers, digests and versions: published digests, and the grammar at its edges."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel import names
from noria.kernel.errors import UsageError

PATTERN = bytes(at % 251 for at in range(102_400))
PUBLISHED = {  # github.com/BLAKE3-team/BLAKE3, test_vectors.json: the first 32 bytes of `hash`, by input length
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
}


@pytest.mark.parametrize("length", PUBLISHED)
def test_a_digest_is_the_published_one(length: int, tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(PATTERN[:length])
    assert names.digest_bytes(PATTERN[:length]) == names.digest_file(path) == PUBLISHED[length]


@pytest.mark.parametrize("length", [1, 63, 64, 65, 4095, 4096, 4097, 102_400])
def test_a_file_has_the_digest_of_its_bytes_however_it_is_read(length: int, tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(PATTERN[:length])
    hasher = blake3()
    for start in range(0, length, 1000):
        hasher.update(PATTERN[start : min(start + 1000, length)])
    assert names.digest_file(path) == hasher.hexdigest() == names.digest_bytes(PATTERN[:length])
    assert names.DIGEST.fullmatch(names.digest_file(path))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a", True), ("late-flights_2", True), ("a" * 63, True), ("a" * 64, False), ("", False), ("2a", False), ("-a", False),
        ("_a", False), ("A", False), ("aB", False), ("a b", False), ("a/b", False), ("a.b", False), ("a\n", False), ("ä", False),
        ("a٣", False), ("..", False), ("a\0", False),
    ],
)  # fmt: skip
def test_a_name_is_small_letters_digits_and_two_signs(text: str, good: bool) -> None:
    assert names.is_name(text) is good


@given(st.integers(1, 999_999_999))
def test_a_version_reads_back(number: int) -> None:
    assert names.version_number(names.version_name(number)) == number


@pytest.mark.parametrize("text", ["", "v", "v0", "v01", "V1", "1", "v1 ", "v1\n", "v-1", "v1.0", "v1000000000", "v٣", "release"])
def test_what_is_no_version_is_told_with_what_one_is(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        names.version_number(text)
    assert caught.value.message == f"{text!r} is not a release"
    assert caught.value.hint == "Releases are named v1, v2, ...; `noria releases` lists them."


def test_ids_differ_and_sort_by_the_millisecond_in_which_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    made = [names.new_id("run") for _ in range(2000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"run-[0-9a-f]{12}-[0-9a-f]{8}", one) for one in made)
    times = [int(one.split("-")[1], 16) for one in made]
    assert before <= times[0] <= times[-1] <= after
    assert times == sorted(times)


def test_short_is_a_beginning_that_a_person_can_read() -> None:
    digest = names.digest_bytes(b"x")
    assert digest.startswith(names.short(digest))
    assert len(names.short(digest)) == 12
