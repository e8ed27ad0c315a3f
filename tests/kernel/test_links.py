"""Links of a tree: the ones that stay inside, and why others may not."""

from __future__ import annotations

import pytest

from noria.kernel.judge_links import judge_links

OUTSIDE, ROUND = "outside of the project", "round in circles"


@pytest.mark.parametrize(
    ("links", "bad"),
    [
        ({}, {}),
        ({"a": "b"}, {}),
        ({"AGENTS.md": "README.md", "src/lib": "../lib", "x": "."}, {}),
        ({"current": "data/2024/not-committed"}, {}),
        ({"one": "two", "two": "three", "three": "file"}, {}),
        ({"deep/er/link": "../../top"}, {}),
        ({"deep/link": "../sub", "sub": "deep"}, {}),
        ({"a": "/etc/passwd"}, {"a": OUTSIDE}),
        ({"a": "../other"}, {"a": OUTSIDE}),
        ({"deep/a": "../../.ssh/id_ed25519"}, {"deep/a": OUTSIDE}),
        ({"lib": "deep/er", "out": "lib/../../../secret"}, {"out": OUTSIDE}),
        ({"fine": "deep/er/..", "out": "fine/../.."}, {"out": OUTSIDE}),
        ({"up": "sub/..", "sub": "/tmp"}, {"up": OUTSIDE, "sub": OUTSIDE}),
        ({"a": "b", "b": "a"}, {"a": ROUND, "b": ROUND}),
        ({"a": "a"}, {"a": ROUND}),
        ({"a": "a/b"}, {"a": ROUND}),
    ],
)
def test_a_link_stays_inside_or_is_named(links: dict[str, str], bad: dict[str, str]) -> None:
    """Number 45: a link is followed in thought only, as the kernel would."""
    found = judge_links(links)
    assert found.keys() == bad.keys()
    assert all(found[name].endswith(why) and links[name] in found[name] for name, why in bad.items())
