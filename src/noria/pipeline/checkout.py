"""Clean checkouts of commits. Each is a small repository of its own that stands on its commit and borrows the objects of the
user's: tools that run inside see the commit, and what they change there stays there.

The files are written under the user's repository, so that its settings, filters and attributes hold, those of its top folder too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from noria.kernel.errors import NoriaError, NotFoundError
from noria.kernel.names import new_id
from noria.pipeline import git

ABOUT = "noria.json"  # inside its .git
LINKED = "160000"  # the mode of a submodule
COPIED = ("shallow", "info/attributes", "info/exclude")
# What a user's repository may be set to and a checkout is not.
PLAIN = {
    "core.splitIndex": "false",
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.sparseCheckout": "false",
    "index.sparse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class CheckoutNote(msgspec.Struct, frozen=True):
    """What a checkout notes of itself."""

    folder: str = ""  # the project's, from the top of the repository
    absent: tuple[str, ...] = ()  # submodules whose commit is not on this machine


class _Entry(msgspec.Struct, frozen=True):
    """One entry of an index."""

    mode: str
    oid: str
    path: bytes


def worktree(repo: Path, commit: str, target: Path) -> Path:
    """The project's folder in a clean checkout of ``commit`` in ``target``, made once: it appears by a rename, whole.

    ``repo`` is the project's folder, maybe inside a working tree: then nothing beside it is checked out. A submodule is checked
    out where the user's own copy of it holds its commit; ``absent`` tells of others.
    Raises NotFoundError when the commit, or the folder in it, does not exist.
    """
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{new_id('w')}")
        try:
            about = _check_out(repo, commit, _prefix(repo), fresh)
            (fresh / ".git" / ABOUT).write_bytes(msgspec.json.encode(about))
            git.place(fresh, target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return project_in(target)


def lay_out(repo: Path, commit: str, target: Path) -> None:
    """The project's files of a commit, its submodules' among them, in ``target``, which is new: nothing of Git's own."""
    fresh = target.with_name(f".{target.name}.{new_id('w')}")
    try:
        about = _check_out(repo, commit, _prefix(repo), fresh)
        for folder, below, _ in os.walk(fresh):
            if ".git" in below:
                below.remove(".git")
                shutil.rmtree(Path(folder) / ".git")
        (fresh / about.folder).rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def project_in(target: Path) -> Path:
    """The project's folder in a checkout."""
    return target / _about(target).folder


def absent(target: Path) -> tuple[str, ...]:
    """Submodules that a checkout is without."""
    return _about(target).absent


def _about(target: Path) -> CheckoutNote:
    try:
        return msgspec.json.decode((target / ".git" / ABOUT).read_bytes(), type=CheckoutNote)
    except FileNotFoundError:  # no checkout of ours, or one of before, which was the project's folder alone
        return CheckoutNote()


def _prefix(repo: Path) -> str:
    """The folder, seen from the top of the repository: empty, or with a slash at its end."""
    return "" if git.bare(repo) else os.fsdecode(git.call(repo, "rev-parse", "--show-prefix").stdout.rstrip(b"\n"))


def _check_out(repo: Path, commit: str, prefix: str, fresh: Path) -> CheckoutNote:
    source = _path(repo, "--absolute-git-dir")
    inner = fresh / ".git"
    inner.mkdir(parents=True)
    env = {"GIT_DIR": str(source), "GIT_WORK_TREE": str(fresh), "GIT_INDEX_FILE": str(inner / "index")}
    done = _quietly(fresh, env, "read-tree", commit)
    if done.returncode:
        raise NotFoundError(f"{commit} cannot be checked out: {git.words(done)}", where=str(repo))
    entries = list(_entries(_quietly(fresh, env, "ls-files", "--stage", "-z").stdout))
    wanted = [entry for entry in entries if entry.path.startswith(os.fsencode(prefix))]
    if prefix and not wanted:
        raise NotFoundError(f"{commit} has no folder {prefix.rstrip('/')}", where=str(repo))
    _bring(repo, commit, [entry.oid for entry in wanted if entry.mode != LINKED])
    _create_repository(repo, source, commit, inner)
    _write(fresh, env, [entry.path for entry in wanted])
    _hide(fresh, env, [entry.path for entry in entries if not entry.path.startswith(os.fsencode(prefix))])
    return CheckoutNote(prefix.rstrip("/"), tuple(_submodules(repo, commit, wanted, fresh)))


def _entries(listed: bytes) -> Iterator[_Entry]:
    """As `git ls-files --stage -z` tells them: mode, object, stage, a tab, the path."""
    for line in listed.split(b"\0"):
        if line:
            facts, _, path = line.partition(b"\t")
            mode, oid, _ = facts.decode().split(" ")
            yield _Entry(mode, oid, path)


def _bring(repo: Path, commit: str, blobs: Sequence[str]) -> None:
    """Of a partial clone: fetch what is wanted and missing at once, where Git would ask for one file after the other."""
    told = git.call(repo, "config", "--get-regexp", r"^remote\..*\.promisor$", "true", check=False).stdout.decode(
        errors="replace"
    )
    if not told:
        return
    remote = told.split(" ")[0].removeprefix("remote.").removesuffix(".promisor")
    listed = git.call(repo, "rev-list", "--objects", "--no-walk", "--missing=print", commit, check=False).stdout.decode(
        errors="replace"
    )
    missing = {line[1:] for line in listed.splitlines() if line.startswith("?")} & set(blobs)
    if missing:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none", "--stdin")
        given = "".join(f"{oid}\n" for oid in sorted(missing)).encode()
        git.call(
            repo, "-c", "fetch.negotiationAlgorithm=noop", "fetch", *options, remote, given=given, timeout_s=git.REMOTE_TIMEOUT_S
        )


def _create_repository(repo: Path, source: Path, commit: str, inner: Path) -> None:
    """The checkout's own repository: its commit, the tags up to there, the settings and the objects of the user's."""
    for folder in ("objects/info", "refs", "info"):
        (inner / folder).mkdir(parents=True)
    common = _path(repo, "--git-common-dir")
    (inner / "HEAD").write_text(f"{commit}\n")
    (inner / "objects" / "info" / "alternates").write_bytes(_quote_path(common / "objects", inner / "objects") + b"\n")
    (inner / "config").write_bytes(_settings(repo, common, inner))
    tags = git.call(
        repo, "for-each-ref", f"--merged={commit}", "--format=%(objectname) %(refname)", "refs/tags", check=False
    ).stdout
    (inner / "packed-refs").write_bytes(tags)
    for name in COPIED:
        place = common / name
        if place.is_file():
            shutil.copyfile(place, inner / name)


def _settings(repo: Path, common: Path, inner: Path) -> bytes:
    """A configuration that includes the user's, without what would lead out of the checkout."""
    hashed = git.call(repo, "rev-parse", "--show-object-format").stdout.strip()
    promised = git.call(repo, "config", "extensions.partialClone", check=False).stdout.strip()
    extensions = [b"\tobjectFormat = " + hashed] * (hashed != b"sha1") + [b"\tpartialClone = " + promised] * bool(promised)
    lines = [b"[include]", b"\tpath = " + _quote_path(common / "config", inner)]
    lines += [b"[core]", b"\trepositoryFormatVersion = %d" % bool(extensions), b"\tbare = false", b"\tworktree = .."]
    lines += [b"[lfs]", b"\tstorage = " + _quote_path(common / "lfs", inner)]
    lines += [b"[extensions]", *extensions] if extensions else []
    for name, value in PLAIN.items():
        section, _, key = name.partition(".")
        lines += [f"[{section}]".encode(), f"\t{key} = {value}".encode()]
    return b"\n".join(lines) + b"\n"


def _quote_path(path: Path, base: Path) -> bytes:
    """A path in quotes: from ``base`` where both lie in one folder that may be copied or moved as a whole."""
    real = base.resolve()
    whole = path.parent.parent  # the working tree, or what a mirror lies in
    text = os.path.relpath(path, real) if real.is_relative_to(whole) else os.fspath(path)
    return b'"' + os.fsencode(text).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _write(fresh: Path, env: dict[str, str], paths: Sequence[bytes]) -> None:
    """The files themselves; a filter may have to bring them from afar."""
    done = _quietly(fresh, env, "checkout-index", "--force", "--quiet", "--index", "-z", "--stdin", given=paths)
    if done.returncode:
        raise NoriaError(f"files of the commit cannot be written: {git.words(done)}", where=str(fresh))


def _hide(fresh: Path, env: dict[str, str], paths: Sequence[bytes]) -> None:
    """What lies beside the project is not here, and is not missing."""
    if paths:
        _quietly(fresh, env, "update-index", "--skip-worktree", "-z", "--stdin", given=paths)


def _submodules(repo: Path, commit: str, entries: Sequence[_Entry], fresh: Path) -> Iterator[str]:
    """Check out the submodules that are on this machine; the paths of the others."""
    links = [entry for entry in entries if entry.mode == LINKED]
    named = _names(repo, commit) if links else {}
    for link in links:
        path = os.fsdecode(link.path)
        theirs = next((place for place in _copies(repo, path, named.get(path)) if _holds(place, link.oid)), None)
        if theirs is None:
            yield link.path.decode(errors="backslashreplace")
            continue
        place = fresh / path
        place.mkdir(parents=True, exist_ok=True)
        yield from (f"{path}/{inner}" for inner in _check_out(theirs, link.oid, "", place).absent)


def _names(repo: Path, commit: str) -> dict[str, str]:
    """Path -> name, as the commit's .gitmodules says."""
    told = git.call(repo, "config", f"--blob={commit}:.gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$", check=False)
    pairs = [os.fsdecode(pair).partition("\n") for pair in told.stdout.split(b"\0") if pair]
    return {path: key.removeprefix("submodule.").removesuffix(".path") for key, _, path in pairs}


def _copies(repo: Path, path: str, name: str | None) -> Iterator[Path]:
    """Where the user's own repository of a submodule may be: in the working tree, or kept by Git."""
    if not git.bare(repo):
        place = _path(repo, "--show-toplevel") / path
        if (place / ".git").exists():
            yield place
    if name is not None and ".." not in PurePosixPath(name).parts:
        kept = _path(repo, "--git-path", "modules") / name
        if git.bare(kept):
            yield kept


def _holds(repo: Path, oid: str) -> bool:
    return git.call(repo, "cat-file", "-e", f"{oid}^{{commit}}", check=False).returncode == 0


def _path(repo: Path, *asked: str) -> Path:
    """A path that `git rev-parse` tells."""
    return (repo / os.fsdecode(git.call(repo, "rev-parse", *asked).stdout.rstrip(b"\n"))).resolve()


def _quietly(fresh: Path, env: dict[str, str], *arguments: str, given: Sequence[bytes] = ()) -> git.Done:
    """Git on the checkout's files and index, without what a user's settings would make of them."""
    settings = [word for name, value in PLAIN.items() for word in ("-c", f"{name}={value}")]
    lines = b"".join(path + b"\0" for path in given)
    return git.call(fresh, *settings, *arguments, check=False, env=env, given=lines, timeout_s=git.REMOTE_TIMEOUT_S)
