"""`noria init`: writes a small working project, or one for a given table."""

from __future__ import annotations

import json
import keyword
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec.structs import replace

from noria.cli.context import demand_text
from noria.cli.output import emit, json_option, plain
from noria.cli.scalar import scalar
from noria.kernel import names
from noria.kernel.errors import RefusedError, UsageError
from noria.kernel.words import plural

if TYPE_CHECKING:
    from noria.cli.draft import ProjectDraft

TEMPLATES = Path(__file__).parent / "templates"
IDENTITY = {"user.name": "Noria", "user.email": "noria@localhost"}  # of the first commit, where Git knows nobody


class InitResult(msgspec.Struct):
    """What init did."""

    home: Path
    project: str
    files: list[str] = []
    commit: str = ""  # one sentence


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option("--data", "data", type=click.Path(path_type=Path), help="Your own table, a CSV or Parquet file.")
@click.option("--label", help="The column to predict; goes with --data.")
@json_option
@click.pass_context
def command(ctx: click.Context, directory: Path | None, data: Path | None, label: str | None, as_json: bool) -> None:
    """Write a small working project here (or in DIRECTORY), or one for your own data. Nothing is overwritten.

    \b
    Example:  noria init hello
              noria init --data customers.csv --label churned

    JSON keys: project, home, files, commit, next; with --data also task, label, inputs, left_out, key, event_time, few_rows,
    repeats.
    """
    start = ctx.find_root().obj or Path(".")
    home = (start / directory if directory else start).resolve()
    demand_text(home)
    if home.is_file():
        hint = f"for a project from this table: noria init --data {shlex.quote(str(directory))} --label COLUMN"
        raise UsageError(f"{directory} is a file, and a project is a folder", hint=hint)
    if (data is None) != (label is None):
        raise UsageError("--data and --label go together", hint="noria init --data customers.csv --label churned")
    if data is not None and label is not None:
        drafted, written = init_own(home, (start / data).resolve(), label)
        emit(as_json, lambda: _document(written) | _draft_document(drafted), lambda: _render(written, drafted))
    else:
        written = init_example(home)
        emit(as_json, lambda: _document(written), lambda: _render(written, None))


def init_example(home: Path) -> InitResult:
    """The pump project: sources, one month of data, a first commit."""
    written = InitResult(home, slug(home.name, "my-project"))
    _write(written, {name: _template(f"example/{name}").render(name=written.project) for name in _names("example")})
    write = runpy.run_path(str(home / "new_data.py"))["write"]
    written.files.append(str(write(home / "data", 1).relative_to(home)))
    written.commit = _commit(written)
    return written


def init_own(home: Path, data: Path, label: str) -> tuple[ProjectDraft, InitResult]:
    """A project for one table; a file from elsewhere is copied into data/."""
    from noria.cli import draft as drafting  # Polars: only a project of one's own data needs it

    table = drafting.read(data)
    inside = data.is_relative_to(home)
    source = str(data.relative_to(home)) if inside else f"data/{data.name}"
    drafted = drafting.draft(table, data, source, label, _identifier(slug(data.stem, "table")))
    found = drafting.beside(data)
    if found is not None:
        drafted = replace(drafted, repeats=f"{found.name} holds {found.repeated:,} of the {found.rows:,} rows of {found.before}")
    written = InitResult(home, slug(home.name, "my-project"))
    contents = {
        _own_name(name, drafted.dataset): _template(f"own/{name}").render(name=written.project, draft=drafted)
        for name in _names("own")
    }
    _write(written, contents, also=[] if inside else [source])
    if not inside:
        (home / "data").mkdir(exist_ok=True)
        shutil.copyfile(data, home / source)
        written.files.append(source)
    written.commit = _commit(written)
    return drafted, written


def slug(text: str, otherwise: str) -> str:
    """A name by the grammar: lower case, digits, dashes; ``otherwise`` where nothing is left."""
    made = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-").lstrip("0123456789-")[:63]
    return made if names.is_name(made) else otherwise


def _identifier(text: str) -> str:
    """A dataset's name is an argument of the steps' functions: no keyword."""
    made = text.replace("-", "_")
    return f"{made}_rows" if keyword.iskeyword(made) else made


def _names(kind: str) -> list[str]:
    folder = TEMPLATES / kind
    return sorted(str(p.relative_to(folder)).removesuffix(".j2") for p in folder.rglob("*.j2"))


def _own_name(template: str, dataset: str) -> str:
    return template.replace("contract.yaml", f"{dataset}.yaml")


def _template(name: str) -> Any:
    made = Environment(  # noqa: S701  it writes code, not HTML
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"yaml": scalar, "pattern": _pattern, "python": repr, "names": _python_names, "words": plain}
    return made.get_template(f"{name}.j2")


def _pattern(path: str) -> str:
    """A path as a line of .gitignore that fits it alone."""
    return re.sub(r"([\\*?\[\] ])", r"\\\1", path)


def _python_names(texts: list[str]) -> str:
    """A list as source, one name a line where it is long."""
    line = json.dumps(texts, ensure_ascii=False)
    return line if len(line) < 110 else "[\n" + "".join(f"    {json.dumps(n, ensure_ascii=False)},\n" for n in texts) + "]"


def _write(written: InitResult, contents: dict[str, str], also: list[str] | None = None) -> None:
    """Writes all files or none; raises RefusedError naming those that exist."""
    targets = {(".gitignore" if name == "gitignore" else name): text.encode() for name, text in contents.items()}
    kept = _keep_gitignore(written.home, targets)
    there = [name for name in [*targets, *(also or [])] if (written.home / name).exists() and name != kept]
    if there:
        raise RefusedError(
            f"these files exist and are not overwritten: {', '.join(there)}",
            where=str(written.home),
            hint="Use another folder: noria init NAME",
        )
    for name, text in targets.items():
        path = written.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        written.files.append(name)


def _keep_gitignore(home: Path, targets: dict[str, bytes]) -> str | None:
    """An existing .gitignore stays, byte for byte, whatever its encoding; our lines are added below.

    Raises RefusedError for one in UTF-16, as PowerShell writes it: Git reads nothing of it.
    """
    path = home / ".gitignore"
    if not path.is_file():
        return None
    present = path.read_bytes()
    if b"\0" in present:
        raise RefusedError(
            ".gitignore is not text that Git can read (UTF-16, as PowerShell's >> writes it?)",
            where=str(path),
            hint="Save it as UTF-8, so that Git ignores what it says; then try again.",
        )
    known = {line.strip() for line in present.splitlines()}
    missing = [line for line in targets[".gitignore"].splitlines() if line not in known]
    apart = b"" if not present or present.endswith(b"\n") else b"\n"
    targets[".gitignore"] = present + apart + b"".join(line + b"\n" for line in missing)
    return ".gitignore"


def _commit(written: InitResult) -> str:
    """Make a repository and its first commit; inside one already, or without Git, say what to do."""
    if shutil.which("git") is None:
        return "Git is not installed: `noria run` works, but only a commit can be released"
    if _git(written.home, "rev-parse", "--is-inside-work-tree").returncode == 0:
        return "this folder is in a Git repository already: commit these files, then run (only a commit can be released)"
    tracked = [name for name in written.files if not _is_data(name, written)]
    identity = [
        arg
        for key, value in IDENTITY.items()
        if not _git(written.home, "config", key).stdout.strip()
        for arg in ("-c", f"{key}={value}")
    ]
    steps = (
        ["init", "-q", "-b", "main"],
        ["add", "--", *tracked],
        [*identity, "-c", "commit.gpgsign=false", "commit", "-q", "-m", "A first project"],
    )
    for step in steps:
        done = _git(written.home, *step)
        if done.returncode != 0:
            return f"git {step[0]} failed: {done.stderr.strip() or done.stdout.strip()}"
    return "a Git repository with a first commit"


def _is_data(name: str, written: InitResult) -> bool:
    return _git(written.home, "check-ignore", "-q", "--no-index", name).returncode == 0 or name.startswith("data/")


def _git(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=30, check=False)


def _document(written: InitResult) -> dict[str, Any]:
    return {
        "project": written.project,
        "home": str(written.home),
        "files": written.files,
        "commit": written.commit,
        "next": ["noria run", "noria up"],
    }


def _draft_document(drafted: ProjectDraft) -> dict[str, Any]:
    return {
        "task": str(drafted.task),
        "label": drafted.label.name,
        "inputs": [c.name for c in drafted.inputs],
        "left_out": dict(drafted.left_out),
        "key": drafted.key,
        "event_time": drafted.event_time,
        "few_rows": drafted.few,
        "repeats": drafted.repeats,
    }


def _render(written: InitResult, drafted: ProjectDraft | None) -> str:
    lines = [
        f"{written.project}: {plural(len(written.files), 'file')} in {written.home}",
        *(f"  {name}" for name in written.files),
    ]
    if drafted is not None:
        lines.append(
            f"It predicts {drafted.label.name} ({drafted.task}: {drafted.why_task}) from {plural(len(drafted.inputs), 'column')}."
        )
        lines += [f"  left out: {name} ({why})" for name, why in drafted.left_out]
        lines += [drafted.few] * bool(drafted.few)
        lines += [_exports(drafted)] * bool(drafted.repeats)
    lines += [f"Git: {written.commit}."]
    here = written.home == Path.cwd()
    lines.append(f"Next: {'' if here else f'cd {written.home} && '}noria run")
    return "\n".join(map(plain_line, lines))


def _exports(drafted: ProjectDraft) -> str:
    """What to do where each file is a whole export."""
    text = f"{drafted.repeats}: each file seems to be a whole export"
    if drafted.key:
        return f"{text}. noria.yaml says `key: [{drafted.key}]`: where the source takes several, the newest row of each stands."
    return f"{text}, and no column names a row: leave the source at one file, or their rows count several times."


def plain_line(line: str) -> str:
    """The line without control characters; its indent stays."""
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + plain(line)
