"""Whether the symbolic links of a tree stay inside it. Pure: paths are text, and no link is ever followed."""

from __future__ import annotations

from collections.abc import Mapping

HOPS = 40  # links on the way to one file, as in the kernel: more go round in circles


def judge_links(links: Mapping[str, str]) -> dict[str, str]:
    """Of the links of a tree (path -> target, '/' separated) those that may not stay, each with the reason in words.

    A link to what is not there may: it leads nowhere, and nowhere else.
    """
    found = {path: _judge(path, links) for path in sorted(links)}
    return {path: why for path, why in found.items() if why}


def _judge(path: str, links: Mapping[str, str]) -> str:
    """Walk from the root of the tree as the kernel would, one name after the other."""
    waiting = path.split("/")[::-1]
    place: list[str] = []
    hops = 0
    while waiting:
        name = waiting.pop()
        if name == "..":
            if not place:
                return f"leads to {links[path]}, outside of the project"
            place.pop()
        elif name not in ("", "."):
            place.append(name)
        target = links.get("/".join(place)) if name not in ("", ".", "..") else None
        if target is None:
            continue
        hops += 1
        if hops > HOPS:
            return f"leads to {links[path]}, and round in circles"
        if target.startswith("/"):
            return f"leads to {links[path]}, outside of the project"
        place.pop()
        waiting += target.split("/")[::-1]
    return ""
