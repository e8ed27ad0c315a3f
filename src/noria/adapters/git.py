"""Git, through its command line: which commit, what changed, and a clean checkout of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.errors import NoriaError, NotFoundError
from noria.names import digest_bytes, digest_file, new_id

TIMEOUT_S = 30.0
REMOTE_TIMEOUT_S = 300.0
REMOTE_EVERY_S = 5.0  # a repository over the network is not asked more often
OWN = ".noria"  # Noria's state never counts as a change
_IDENTITY = "--format=%s%x00%an%x00%ct"


@dataclass(frozen=True, slots=True)
class CommitInfo:
    subject: str
    author: str
    at: float  # seconds since 1970, when it was committed


def is_repo(path: Path) -> bool:
    """Whether ``path`` lies in a working tree, or is a bare repository. Starts no process."""
    if (path / "HEAD").is_file() and (path / "objects").is_dir():
        return True
    return any((folder / ".git").exists() for folder in (path.resolve(), *path.resolve().parents))


def head(repo: Path, branch: str = "HEAD") -> str | None:
    """The full id of the newest commit of ``branch``; None when there is no such branch or no commit yet."""
    done = _git(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{branch}^{{commit}}", check=False)
    return done.stdout.decode().strip() or None


def commit_info(repo: Path, commit: str) -> CommitInfo:
    """Raises NotFoundError for an unknown commit."""
    done = _git(repo, "show", "--no-patch", "--no-show-signature", _IDENTITY, "--end-of-options", commit, check=False)
    if done.returncode:
        raise NotFoundError(f"there is no commit {commit}", where=str(repo))
    subject, author, at = done.stdout.decode(errors="replace").strip().split("\0")
    return CommitInfo(subject, author, float(at))


def show(repo: Path, commit: str, path: str) -> bytes | None:
    """The file ``path`` (relative to ``repo``) as it is in ``commit``; None when it is not there."""
    done = _git(repo, "show", f"{commit}:./{path}" if not _bare(repo) else f"{commit}:{path}", check=False)
    return done.stdout if done.returncode == 0 else None


def changed(repo: Path, before: str, after: str) -> list[tuple[str, int | None, int | None]] | None:
    """Path, lines added and lines removed (None: not text) of every file that differs between two commits, below ``repo``.

    None when the repository does not hold both.
    """
    below = () if _bare(repo) else ("--relative",)
    # an attribute of the repository may not start a program of its own
    options = ("--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", *below)
    done = _git(repo, "diff", *options, "--end-of-options", before, after, "--", check=False)
    if done.returncode:
        return None
    found = [os.fsdecode(entry).split("\t", 2) for entry in done.stdout.split(b"\0") if entry]
    return [(path, _lines(added), _lines(removed)) for added, removed, path in found]


def _lines(text: str) -> int | None:
    return None if text == "-" else int(text)


def dirty_digest(repo: Path, ignore: Sequence[str] = ()) -> str | None:
    """The digest of everything under ``repo`` that differs from the commit; None when nothing does.

    Files that Git ignores, `.noria`, and the path patterns ``ignore`` do not count. Untracked files do: they can be imported.
    """
    differing = _differing(repo, ignore)
    if not differing:
        return None
    top = Path(os.fsdecode(_git(repo, "rev-parse", "--show-toplevel").stdout.rstrip(b"\n")))
    lines = [entry + b"\0" + _content(top / os.fsdecode(entry[3:])) for entry in differing]
    return digest_bytes(b"\n".join([(head(repo) or "").encode(), *lines]))


def dirty_names(repo: Path, ignore: Sequence[str] = ()) -> list[str]:
    """The files that `dirty_digest` is of, as Git names them: from the top of the repository."""
    return [os.fsdecode(entry[3:]) for entry in _differing(repo, ignore)]


def _differing(repo: Path, ignore: Sequence[str]) -> list[bytes]:
    """What Git says of each file that differs from the commit: two letters, a space, its name."""
    excluded = [f":(exclude,glob)**/{OWN}/**", *(f":(exclude,glob){pattern}" for pattern in ignore)]
    status = _git(repo, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", ".", *excluded).stdout
    return [entry for entry in sorted(status.split(b"\0")) if entry]


def listed(repo: Path, ignore: Sequence[str] = ()) -> list[str]:
    """Files and links below ``repo`` that Git tracks or does not ignore, those of repositories inside among them, in order.

    `.noria` and the path patterns ``ignore`` do not count. A name may be of a file that is gone.
    """
    excluded = [f":(exclude,glob)**/{OWN}/**", *(f":(exclude,glob){pattern}" for pattern in ignore)]
    said = _git(repo, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", *excluded).stdout
    found: set[str] = set()
    for name in {os.fsdecode(entry).rstrip("/") for entry in said.split(b"\0") if entry}:
        inside = repo / name
        if inside.is_symlink() or not inside.is_dir():
            found.add(name)
        elif (inside / ".git").exists():
            found |= {f"{name}/{inner}" for inner in listed(inside)}
    return sorted(found)


def committed(repo: Path, commit: str) -> frozenset[str] | None:
    """The files and links of a commit below ``repo``, and the folders of its submodules; None where it is unknown."""
    if not repo.is_dir():
        return None
    done = _git(repo, "ls-tree", "-r", "-z", "--name-only", commit, check=False)
    return None if done.returncode else frozenset(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)


def ignored(folder: Path, paths: Sequence[str]) -> frozenset[str]:
    """Those of ``paths`` (relative to ``folder``) that Git ignores; none outside a repository."""
    if not is_repo(folder):
        return frozenset()
    done = _git(folder, "-c", "core.quotePath=false", "check-ignore", "--", *paths[:1000], check=False)
    return frozenset(os.fsdecode(name) for name in done.stdout.split(b"\n") if name)


def worktree(repo: Path, commit: str, target: Path) -> Path:
    """A clean checkout of ``commit`` in ``target``, made once: it appears by a rename, whole, and a later call finds it there.

    When ``repo`` is a folder inside a working tree, that folder is checked out. Submodules are not followed.
    Raises NotFoundError when the commit, or the folder in it, does not exist.
    """
    if target.is_dir():
        return target
    prefix = "" if _bare(repo) else _git(repo, "rev-parse", "--show-prefix").stdout.decode().strip()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{new_id('w')}")
    try:
        _check_out(repo, f"{commit}:{prefix.rstrip('/')}", fresh)
        _place(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        _index(fresh).unlink(missing_ok=True)
    return target


def begin(folder: Path) -> None:
    """An empty repository, so that what the folder's .gitignore says counts there."""
    _git(folder, "init", "--quiet")


def fetch(url: str, mirror: Path) -> Path:
    """Bring the bare mirror of ``url`` up to date; it is cloned when there is none."""
    if not mirror.is_dir():
        mirror.parent.mkdir(parents=True, exist_ok=True)
        fresh = mirror.with_name(f".{mirror.name}.{new_id('m')}")
        try:
            _git(mirror.parent, "clone", "--quiet", "--mirror", "--", url, str(fresh), timeout_s=REMOTE_TIMEOUT_S)
            _place(fresh, mirror)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    elif _due(url, mirror):
        _git(mirror, "fetch", "--quiet", "--prune", "origin", timeout_s=REMOTE_TIMEOUT_S)
    return mirror


def _check_out(repo: Path, tree: str, fresh: Path) -> None:
    """Through an index of its own: the repository's index, files and settings stay as they are."""
    fresh.mkdir()
    own = {"GIT_INDEX_FILE": str(_index(fresh)), "GIT_WORK_TREE": str(fresh)}
    own["GIT_DIR"] = os.fsdecode(_git(repo, "rev-parse", "--absolute-git-dir").stdout.rstrip(b"\n"))
    done = _git(fresh, "read-tree", tree, check=False, env=own)
    if done.returncode:
        raise NotFoundError(f"{tree.rstrip(':')} cannot be checked out: {_words(done)}", where=str(repo))
    _git(fresh, "checkout-index", "--all", "--force", "--quiet", env=own)


def _index(fresh: Path) -> Path:
    """Of one checkout only: two that come at once would otherwise spoil each other's."""
    return fresh.with_name(f"{fresh.name}.index")


def _place(fresh: Path, target: Path) -> None:
    try:
        fresh.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same content
            raise


def _due(url: str, mirror: Path) -> bool:
    if "://" not in url and ":" not in url.partition("/")[0]:
        return True  # a path: cheap
    try:
        return time.time() - (mirror / "FETCH_HEAD").stat().st_mtime > REMOTE_EVERY_S
    except FileNotFoundError:
        return True


def _content(path: Path) -> bytes:
    """What stands for a changed file: its digest, a link's target, or its absence."""
    if path.is_symlink():
        return os.fsencode(os.readlink(path))
    try:
        return digest_file(path).encode() if path.is_file() else b"-"
    except FileNotFoundError:
        return b"-"


def _bare(repo: Path) -> bool:
    return (repo / "HEAD").is_file() and (repo / "objects").is_dir()


def _git(
    repo: Path, *arguments: str, check: bool = True, timeout_s: float = TIMEOUT_S, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=repo,
            env={**_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        missing = "git is not installed" if repo.is_dir() else "the folder does not exist"
        raise NoriaError(missing, where=str(repo)) from error
    except subprocess.TimeoutExpired as error:
        raise NoriaError(f"`git {arguments[0]}` did not end within {timeout_s:g} s", where=str(repo)) from error
    if check and done.returncode:
        raise NoriaError(f"`git {arguments[0]}` failed: {_words(done)}", where=str(repo))
    return done


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"


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


_KEPT = frozenset({"GIT_SSH_COMMAND", "GIT_SSH", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"})
