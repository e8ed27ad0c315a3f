"""`noria check`: configuration, code and data, in seconds; nothing is recorded."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec.structs import replace

from noria.cli.context import PROJECT_FILE, Home
from noria.cli.output import ExitCode, emit, json_option, plain, plural
from noria.config import elsewhere
from noria.data import files, repeats, served_predictions, sources, table_types
from noria.data.formats import DatasetFile
from noria.data.store import DataStore
from noria.data.table_store import TableStore
from noria.kernel.errors import DataError, ServingError
from noria.kernel.words import lasting
from noria.monitor import judge_quality
from noria.pipeline import check, sealable_code
from noria.pipeline.executors.local import child_environment

if TYPE_CHECKING:
    import polars as pl

    from noria.config import DataSource, Project
    from noria.data.table_store import Settled
    from noria.data.table_types import TypeDecision


class CheckResult(msgspec.Struct, frozen=True):
    """One thing that was checked."""

    what: str
    ok: bool
    text: str
    warning: bool = False  # nothing is wrong, yet it will not do what one may expect of it

    @property
    def level(self) -> str:
        return "fail" if not self.ok else "warn" if self.warning else "ok"

    def facts(self) -> dict[str, Any]:
        return {"what": self.what, "ok": self.ok, "level": self.level, "text": self.text}


@click.command()
@click.option("--no-tests", is_flag=True, help="Leave the project's own tests out.")
@json_option
@click.pass_context
def command(ctx: click.Context, no_tests: bool, as_json: bool) -> int:
    """Read noria.yaml, hold every data file against its contract, see whether the code can be sealed, run the project's tests.
    Records nothing.

    Where a model server runs, its present traffic tells how long a rollout would take; a guard that cannot decide within
    patience is a warning, which fails nothing. Of a dvc.yaml or an MLproject in the folder it says what noria.yaml would say.

    \b
    Example:
      noria check
      noria check --no-tests --json

    JSON: ok, findings[what, ok, level (ok, warn, fail), text].
    """
    start = (ctx.find_root().obj or Path(".")).resolve()
    beside = _beside(start)
    if beside and not (start / PROJECT_FILE).is_file():
        return _tell([CheckResult(PROJECT_FILE, False, "is not there; what is could become one"), *beside], as_json)
    home = Home.find(start)
    project = home.project()
    findings = [CheckResult("noria.yaml", True, _summary(project)), *beside, *_rollouts(home, project), *_monitor(home, project)]
    for source in project.data.values():
        findings += _data(home, project, source)
    findings += _links(home, project)
    if project.checks.code and not no_tests:
        findings.append(_tests(home, project.checks.code, project.checks.timeout_s))
    return _tell([replace(finding, text=project.masked(finding.text)) for finding in findings], as_json)


def _tell(findings: list[CheckResult], as_json: bool) -> int:
    good = all(f.ok for f in findings)
    emit(as_json, {"ok": good, "findings": [f.facts() for f in findings]}, lambda: _render(findings))
    return ExitCode.PASSED if good else ExitCode.NO


def _beside(folder: Path) -> list[CheckResult]:
    """Projects of other tools in the folder."""
    return [CheckResult(one.file, True, one.text) for one in elsewhere.neighbours(folder)]


def _summary(project: Project) -> str:
    model = f"model of {project.model.label}" if project.model else "no model"
    data, steps = plural(len(project.data), "dataset"), plural(len(project.steps), "step")
    return f"{data}, {steps}, {model}, {plural(len(project.gates), 'gate')}"


def _rollouts(home: Home, project: Project) -> list[CheckResult]:
    """What each environment's rollout takes at present traffic."""
    if all(environment.rollout.direct for environment in project.environments.values()):
        return []
    from noria.cli import rollout_forecast  # SciPy: only a rollout that is judged needs it

    environments, found = _server_environments(home), []
    for name, environment in project.environments.items():
        facts = environments.get(name, {})
        delay_s, projects = project.monitor.label_delay_s, len(facts.get("routes", ()))
        for guard, level, text in rollout_forecast.lines(environment, project.name, delay_s, facts.get("rates"), projects):
            found.append(CheckResult(f"rollout {name}{guard and f', {guard}'}", True, text, warning=level == "warn"))
    return found


def _monitor(home: Home, project: Project) -> list[CheckResult]:
    """Whether the quality of what is served can be judged."""
    model = project.model
    if model is None or not project.environments:
        return []
    rates = [facts.get("rates") or {} for facts in _server_environments(home).values()]
    coming = [rate["labels_per_s"] for rate in rates if rate.get("labels_per_s")]
    holdout_s = model.holdout.last_s if model.event_time is not None else None
    by_day = model.event_time is not None
    text, can = judge_quality.outlook(project.monitor, by_day=by_day, holdout_s=holdout_s, labels_per_s=max(coming, default=None))
    return [CheckResult("monitor", True, text, warning=not can)]


def _server_environments(home: Home) -> dict[str, Any]:
    """The running server's environments; none without a server."""
    try:
        return dict(home.server().status()["environments"])
    except ServingError:
        return {}


def _data(home: Home, project: Project, source: DataSource) -> list[CheckResult]:
    if served_predictions.is_log(source.source):
        return [CheckResult(source.name, True, f"served predictions of {source.source.removeprefix('log:')} with their labels")]
    found, whole_bytes, whole = list[CheckResult](), 0, 0
    try:
        if not source.opaque:
            return _tables(home, project, source) or [CheckResult(source.name, False, f"no file matches {source.shown}")]
        for each, path in sources.read(source, home.path):
            if path is None:
                found.append(CheckResult(each.name, False, each.problem or "cannot be read"))
            else:
                whole, whole_bytes = whole + 1, whole_bytes + each.size_bytes
    except DataError as error:
        return [*found, CheckResult(source.name, False, f"{source.shown}: {error.message}")]
    if whole:
        found.append(CheckResult(source.name, True, f"{plural(whole, 'file')}, {whole_bytes:,} bytes, kept as they are"))
    return found or [CheckResult(source.name, False, f"no file matches {source.shown}")]


def _tables(home: Home, project: Project, source: DataSource) -> list[CheckResult]:
    """Each file against its contract and the dataset's table, and how that is read."""
    before, accepted = _read_accepted(home, project, source)
    new = (DatasetFile(each.name, path) for each, path in sources.read(source, home.path) if path is not None)
    decided = table_types.of_files(source, before, (), new)
    base: tuple[str, ...] = ()  # of a file that may be accepted
    found, read = list[CheckResult](), False
    for each, path in sources.read(source, home.path):
        if path is None:
            found.append(CheckResult(each.name, False, each.problem or "cannot be read"))
            continue
        beside = tuple(before.type.columns) if before is not None and accepted - {each.name} else base
        finding, columns = _table(each.name, path, source, decided, beside)
        found += [finding, *(_alone(each.name, path, project, source, decided) if finding.ok else ())]
        read |= bool(columns)
        base = base or (columns if finding.ok else ())
    if not read:
        return found
    return [
        *found,
        *_repeats(home, source, decided, [f.what for f in found if f.ok and not f.warning]),
        _as_read(source, decided),
    ]


def _as_read(source: DataSource, decided: TypeDecision) -> CheckResult:
    key = f"; of rows with the same {', '.join(source.key)} the newest file's stands" if source.key else ""
    return CheckResult(source.name, True, f"{table_types.words(decided)}{key}")


def _repeats(home: Home, source: DataSource, decided: TypeDecision, good: list[str]) -> list[CheckResult]:
    """Whether the newest file holds the rows of the one before it once more."""
    names = list(dict.fromkeys(good))
    if len(names) < 2 or not sources.nearby(source):
        return []
    paths = {each.name: path for each, path in sources.read(source, home.path) if path is not None}

    def read(name: str) -> pl.DataFrame:
        return files.read_table(paths[name], name=name, kind=decided.type, dialect=source.csv)

    found = repeats.newest(names, names, source.key, read)
    return [CheckResult(source.name, True, found.words(source.name), warning=not source.key)] if found is not None else []


def _read_accepted(home: Home, project: Project, source: DataSource) -> tuple[Settled | None, set[str]]:
    """What was decided of the dataset's table when files were accepted, if any was; and the names of those."""
    if not home.ledger_file.is_file():
        return None, set()
    with home.ledger_to_read() as ledger:
        before = TableStore(ledger, project.name).get(source.name)
        names = set(DataStore(ledger, project.name).standing(source.name))
    return (before, names) if before is not None and before.source == table_types.identity(source) else (None, set())


def _table(
    name: str, path: Path, source: DataSource, decided: TypeDecision, base: tuple[str, ...]
) -> tuple[CheckResult, tuple[str, ...]]:
    """One file against its contract and the dataset's table; its columns."""
    try:
        opened = files.open_table(path, name, source.csv)
    except DataError as error:
        return CheckResult(name, False, f"{error.message}{f' ({error.hint})' if error.hint else ''}"), ()
    ruling, example = check.ruling(source, table_types.for_file(source, decided, opened), opened, base, None)
    text = ruling.verdict.sentence()
    finding = CheckResult(name, ruling.verdict.passed, f"{text}: {example}" if example else text)
    return finding, tuple(opened.table.columns)


def _links(home: Home, project: Project) -> list[CheckResult]:
    """Links of the code that could not be sealed."""
    bad = sealable_code.bad_links(home.path, project) if project.model is not None else ""
    return [CheckResult("code", False, f"{bad}. {sealable_code.CURE}")] if bad else []


def _alone(name: str, path: Path, project: Project, source: DataSource, decided: TypeDecision) -> list[CheckResult]:
    """Inputs that predict the label alone, where the file is what the model is trained on."""
    if project.model is None or project.model.rows != source.name:
        return []
    table = files.read_table(path, name=name, kind=decided.type, dialect=source.csv)
    return [CheckResult(name, True, text, warning=True) for text in check.alone(project.model, table)]


def _tests(home: Home, tests: str, timeout_s: float) -> CheckResult:
    try:
        done = subprocess.run(  # noqa: S602 - the project's own command, as its file says
            tests,
            shell=True,
            cwd=home.path,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CheckResult("tests", False, f"`{tests}` ran longer than {lasting(timeout_s)}")
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:] or ["no output"]
    return CheckResult("tests", done.returncode == 0, f"`{tests}`: {last[0]}")


def _render(findings: list[CheckResult]) -> str:
    marks = {
        "ok": click.style("ok  ", fg="green"),
        "warn": click.style("warn", fg="yellow"),
        "fail": click.style("FAIL", fg="red", bold=True),
    }
    return "\n".join(
        f"{marks[f.level]}  {plain(f.what)}: {plain(f.text, lines=True)}".replace("\n", "\n      ") for f in findings
    )
