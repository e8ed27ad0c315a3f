"""Git, through its command line: which commit, and what changed. ``checkout.py`` makes clean checkouts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from noria.kernel.errors import NoriaError, NotFoundError
from noria.kernel.names import digest_bytes, digest_file, new_id
from noria.kernel.words import lasting
from noria.pipeline.judge_uncommitted import UncommittedChange

TIMEOUT_S = 30.0
REMOTE_TIMEOUT_S = 300.0
OWN = ".noria"  # Noria's state never counts as a change
Done = subprocess.CompletedProcess[bytes]
_IDENTITY = "--format=%s%x00%an%x00%ct"


class CommitInfo(msgspec.Struct, frozen=True):
    subject: str
    author: str
    at: float  # seconds since 1970, when it was committed


def is_repo(path: Path) -> bool:
    """Whether ``path`` lies in a working tree, or is a bare repository. Starts no process."""
    if (path / "HEAD").is_file() and (path / "objects").is_dir():
        return True
    return any((folder / ".git").exists() for folder in (path.resolve(), *path.resolve().parents))


def head(repo: Path, branch: str | None = None) -> str | None:
    """The full id of the newest commit of a branch, by default of what is checked out; None when there is none.

    Full reference names are asked for: a tag that is named like the branch is not meant. ``origin/main`` is a branch too.
    Raises NoriaError when Git cannot tell.
    """
    asked = (
        ["HEAD"] if branch is None else [branch] if branch.startswith("refs/") else [f"{place}/{branch}" for place in _BRANCHES]
    )
    return next(filter(None, (_commit(repo, reference) for reference in asked)), None)


def _commit(repo: Path, reference: str) -> str | None:
    done = call(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}", check=False)
    if done.returncode and done.stderr.strip():  # no such reference is silence
        raise NoriaError(f"Git cannot resolve {reference}: {words(done)}", where=str(repo))
    return done.stdout.decode().strip() or None


def branches(repo: Path) -> list[str]:
    """Names of the branches, the one that was committed to last first."""
    found = call(repo, "for-each-ref", "--count=20", "--sort=-committerdate", "--format=%(refname:lstrip=2)", *_BRANCHES).stdout
    return [_text(name) for name in found.splitlines() if not name.endswith(b"/HEAD")]


def current_branch(repo: Path) -> str | None:
    """The branch that is checked out (of a mirror: the remote's main one); None where a commit is, without a branch."""
    done = call(repo, "symbolic-ref", "--quiet", "HEAD", check=False)
    return _text(done.stdout.rstrip(b"\n")).removeprefix("refs/heads/") or None


def contains(repo: Path, commit: str, earlier: str) -> bool | None:
    """Whether ``earlier`` is in the history of ``commit``; None where the repository does not hold both, or is shallow."""
    done = call(repo, "merge-base", "--is-ancestor", "--end-of-options", earlier, commit, check=False)
    if done.returncode == 1 and call(repo, "rev-parse", "--is-shallow-repository", check=False).stdout.strip() == b"true":
        return None
    return {0: True, 1: False}.get(done.returncode)


def commit_info(repo: Path, commit: str) -> CommitInfo:
    """Raises NotFoundError for an unknown commit."""
    done = call(repo, "show", "--no-patch", "--no-show-signature", _IDENTITY, "--end-of-options", commit, check=False)
    if done.returncode:
        raise NotFoundError(f"there is no commit {commit}", where=str(repo))
    subject, author, at = done.stdout.decode(errors="replace").strip().split("\0")
    return CommitInfo(subject, author, float(at))


def show(repo: Path, commit: str, path: str) -> bytes | None:
    """The file ``path`` (relative to ``repo``) as it is in ``commit``; None when it is not there."""
    done = call(repo, "show", f"{commit}:./{path}" if not bare(repo) else f"{commit}:{path}", check=False)
    return done.stdout if done.returncode == 0 else None


def changed_files(repo: Path, before: str, after: str) -> list[tuple[str, int | None, int | None]] | None:
    """Path, lines added and lines removed (None: not text) of every file that differs between two commits, below ``repo``.

    None when the repository does not hold both.
    """
    below = () if bare(repo) else ("--relative",)
    # an attribute of the repository may not start a program of its own
    options = ("--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", *below)
    done = call(repo, "diff", *options, "--end-of-options", before, after, "--", check=False)
    if done.returncode:
        return None
    found = [_text(entry).split("\t", 2) for entry in done.stdout.split(b"\0") if entry]
    return [(path, _lines(added), _lines(removed)) for added, removed, path in found]


def _lines(text: str) -> int | None:
    return None if text == "-" else int(text)


def changes(repo: Path, ignore: Sequence[str] = ()) -> list[UncommittedChange]:
    """What differs from the commit under ``repo``, and what is new there, in order of the paths.

    Files that Git ignores, `.noria`, and the path patterns ``ignore`` are left out.
    """
    excluded = [f":(exclude,glob)**/{OWN}/**", *(f":(exclude,glob){pattern}" for pattern in ignore)]
    options = ("--porcelain=v1", "-z", "--no-renames", "--ignore-submodules=none", "--untracked-files=all")
    found = [line for line in call(repo, "status", *options, "--", ".", *excluded).stdout.split(b"\0") if line]
    prefix = call(repo, "rev-parse", "--show-prefix").stdout.rstrip(b"\n") if found else b""
    made = [UncommittedChange(os.fsdecode(line[3:].removeprefix(prefix)), not line.startswith(b"??")) for line in found]
    return sorted(made, key=lambda change: change.path)


def digest_of(repo: Path, changed: Sequence[UncommittedChange]) -> str | None:
    """The digest of the commit with these changes; None without any."""
    if not changed:
        return None
    lines = [
        f"{change.tracked} ".encode() + os.fsencode(change.path) + b"\0" + _content(repo / change.path) for change in changed
    ]
    return digest_bytes(b"\n".join([(head(repo) or "").encode(), *lines]))


def list_files(repo: Path, ignore: Sequence[str] = (), *, others: bool = True) -> list[str]:
    """Files and links below ``repo`` that Git tracks or (``others``) does not ignore, those of repositories inside among them.

    `.noria` and the path patterns ``ignore`` do not count. A name may be of a file that is gone.
    """
    excluded = [f":(exclude,glob)**/{OWN}/**", *(f":(exclude,glob){pattern}" for pattern in ignore)]
    kinds = ("--cached", "--others", "--exclude-standard") if others else ("--cached",)
    said = call(repo, "ls-files", "-z", *kinds, "--", ".", *excluded).stdout
    found: set[str] = set()
    for name in {os.fsdecode(entry).rstrip("/") for entry in said.split(b"\0") if entry}:
        inside = repo / name
        if inside.is_symlink() or not inside.is_dir():
            found.add(name)
        elif (inside / ".git").exists():
            found |= {f"{name}/{inner}" for inner in list_files(inside, others=others)}
    return sorted(found)


def committed_files(repo: Path, commit: str) -> frozenset[str] | None:
    """The files and links of a commit below ``repo``, and the folders of its submodules; None where it is unknown."""
    if not repo.is_dir():
        return None
    done = call(repo, "ls-tree", "-r", "-z", "--name-only", commit, check=False)
    return None if done.returncode else frozenset(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)


def ignored_paths(folder: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of ``paths`` (relative to ``folder``) that Git ignores; none outside a repository."""
    if not is_repo(folder):
        return frozenset()
    given = b"".join(os.fsencode(path) + b"\0" for path in paths)
    done = call(folder, "check-ignore", "-z", "--stdin", check=False, given=given)
    return frozenset(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)


def begin(folder: Path) -> None:
    """An empty repository, so that what the folder's .gitignore says counts there."""
    call(folder, "init", "--quiet")


def fetch(url: str, mirror: Path, every_s: float = 0.0) -> Path:
    """Bring the bare mirror of ``url`` up to date; it is cloned when there is none.

    A repository over the network is asked no more often than ``every_s``.
    """
    if not mirror.is_dir():
        mirror.parent.mkdir(parents=True, exist_ok=True)
        fresh = mirror.with_name(f".{mirror.name}.{new_id('m')}")
        try:
            call(mirror.parent, "clone", "--quiet", "--mirror", "--", url, str(fresh), timeout_s=REMOTE_TIMEOUT_S)
            place(fresh, mirror)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return mirror
    moved = _follow(url, mirror)
    if moved or _due(url, mirror, every_s):
        call(mirror, "fetch", "--quiet", "--prune", "origin", timeout_s=REMOTE_TIMEOUT_S)
        if head(mirror) is None:
            _find_main(mirror)
    return mirror


def _follow(url: str, mirror: Path) -> bool:
    """Whether the mirror was of another address until now."""
    known = os.fsdecode(call(mirror, "config", "remote.origin.url", check=False).stdout.rstrip(b"\n"))
    address = str((mirror.parent / url).resolve()) if _path(url) else url
    if known in (url, address):
        return False
    call(mirror, "config", "remote.origin.url", address)
    return True


def _path(url: str) -> bool:
    """Whether an address is a folder of this machine, and no ``HOST:PATH``."""
    return "://" not in url and ":" not in url.partition("/")[0]


def _find_main(mirror: Path) -> None:
    """The remote's main branch was renamed: ask which it is now."""
    told = call(mirror, "ls-remote", "--symref", "origin", "HEAD", timeout_s=REMOTE_TIMEOUT_S).stdout
    first = told.partition(b"\n")[0].split(b"\t")[0]
    if first.startswith(b"ref: "):
        call(mirror, "symbolic-ref", "HEAD", os.fsdecode(first[5:]))


def place(fresh: Path, target: Path) -> None:
    """Rename a folder that is whole to where it belongs."""
    try:
        fresh.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same content
            raise


def _due(url: str, mirror: Path, every_s: float) -> bool:
    if _path(url):
        return True  # cheap
    try:
        return time.time() - (mirror / "FETCH_HEAD").stat().st_mtime > every_s
    except FileNotFoundError:
        return True


def _content(path: Path) -> bytes:
    """What stands for a changed file: its digest, a link's target, or its absence; for a repository inside, where it stands."""
    if path.is_symlink():
        return os.fsencode(os.readlink(path))
    if (path / ".git").exists():
        return f"{head(path)} {digest_of(path, changes(path))}".encode()
    try:
        return digest_file(path).encode() if path.is_file() else b"-"
    except FileNotFoundError:
        return b"-"


def bare(repo: Path) -> bool:
    """Whether a folder is a repository without a working tree."""
    return (repo / "HEAD").is_file() and (repo / "objects").is_dir()


def call(
    repo: Path,
    *arguments: str,
    check: bool = True,
    timeout_s: float = TIMEOUT_S,
    env: Mapping[str, str] | None = None,
    given: bytes = b"",
) -> Done:
    """Run `git` in a folder, with ``given`` as its input.

    Raises NoriaError when it cannot start, when it may not look, and with ``check`` when it fails.
    """
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=repo,
            env={**_environment(), **(env or {})},
            input=given,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        missing = "git is not installed" if repo.is_dir() else "the folder does not exist"
        raise NoriaError(missing, where=str(repo)) from error
    except subprocess.TimeoutExpired as error:
        raise NoriaError(f"`git {arguments[0]}` did not end within {lasting(timeout_s)}", where=str(repo)) from error
    if done.returncode and b"dubious ownership" in done.stderr:
        raise _not_ours(repo, done)
    if check and done.returncode:
        raise NoriaError(f"`git {arguments[0]}` failed: {words(done)}", where=str(repo))
    return done


def _not_ours(repo: Path, done: Done) -> NoriaError:
    named = _DUBIOUS.search(done.stderr)
    folder = os.fsdecode(named[1]) if named else str(repo)
    return NoriaError(
        'this repository belongs to another user, so Git does not read it ("dubious ownership")',
        where=folder,
        hint=f"Run Noria as its owner, or trust it: git config --global --add safe.directory {shlex.quote(folder)}",
    )


def _text(name: bytes) -> str:
    """A name to be shown and kept, whatever its encoding."""
    return name.decode(errors="backslashreplace")


def words(done: Done) -> str:
    """What Git said of its failure, without who asked: an address may hold a token."""
    return _USER.sub("://***@", done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}")


def _environment() -> dict[str, str]:
    """Without the variables of a hook that may have called us, without questions, in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT}
    return {
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        **kept,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }


_BRANCHES = ("refs/heads", "refs/remotes")
_USER = re.compile(r"://[^/@\s]+@")
_DUBIOUS = re.compile(rb"dubious ownership in repository at '(.*)'")


_KEPT = frozenset({"GIT_SSH_COMMAND", "GIT_SSH", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"})
