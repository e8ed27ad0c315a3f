"""`noria check`: checks configuration, code and data in seconds; it records nothing."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec.structs import replace

from noria.cli.accepted_files import AcceptedFiles
from noria.cli.context import PROJECT_FILE, Home
from noria.cli.output import ExitCode, emit, json_option, plain, plural
from noria.config import elsewhere, referenced_first
from noria.data import (
    files,
    personal_columns,
    personal_key,
    referenced_rows,
    repeats,
    retyped,
    served_predictions,
    sources,
    table_types,
)
from noria.data.formats import DatasetFile
from noria.data.store import DataStore
from noria.data.table import TableType
from noria.data.table_store import TableStore
from noria.evaluation import judge_sample_size
from noria.evaluation.store import EvaluationStore
from noria.kernel.errors import DataError, ServingError, StoreError
from noria.kernel.verdict import Outcome
from noria.kernel.words import lasting
from noria.models.missing_columns import missing_columns
from noria.monitor import judge_quality
from noria.pipeline import check, sealable_code
from noria.pipeline.executors.local import child_environment

if TYPE_CHECKING:
    import polars as pl

    from noria.config import DataSource, Model, Project
    from noria.data.personal_columns import Look
    from noria.data.referenced_values import ReferencedColumn
    from noria.data.sources import FoundFile
    from noria.data.table_store import Settled
    from noria.data.table_types import TypeDecision
    from noria.kernel.contract import ColumnReference


class CheckResult(msgspec.Struct, frozen=True):
    """One thing that was checked."""

    what: str
    ok: bool
    text: str
    warning: bool = False  # not an error, but it will not do what one may expect

    @property
    def level(self) -> str:
        return "fail" if not self.ok else "warn" if self.warning else "ok"

    def facts(self) -> dict[str, Any]:
        return {"what": self.what, "ok": self.ok, "level": self.level, "text": self.text}


@click.command()
@click.option("--no-tests", is_flag=True, help="Skip the project's own tests.")
@json_option
@click.pass_context
def command(ctx: click.Context, no_tests: bool, as_json: bool) -> int:
    """Read noria.yaml, check every data file against its contract, check that the code can be sealed, and run the project's
    tests. Nothing is recorded.

    If a model server runs, its current traffic shows how long a rollout would take; a guard that cannot decide within the
    patience is a warning, not a failure. Once a candidate was compared with the champion, gates say how many rows they need,
    beside what the last holdout had. For a dvc.yaml or an MLproject in the folder, it prints the matching noria.yaml.

    \b
    Example:
      noria check
      noria check --no-tests --json

    JSON: ok, findings[what, ok, level (ok, warn, fail), text].
    """
    start = (ctx.find_root().obj or Path(".")).resolve()
    beside = _beside(start)
    if beside and not (start / PROJECT_FILE).is_file():
        return _tell(
            [CheckResult(PROJECT_FILE, False, "is missing; another tool's project here can be converted"), *beside], as_json
        )
    home = Home.find(start)
    project = home.project()
    findings = [CheckResult("noria.yaml", True, _summary(project)), *beside, *_rollouts(home, project), *_monitor(home, project)]
    findings += _gates(home, project)
    checked: dict[str, AcceptedFiles] = {}
    of_data = {name: _data(home, project, project.data[name], checked) for name in referenced_first(project.data)}
    findings += [finding for name in project.data for finding in of_data[name]]
    findings += _links(home, project)
    if project.checks.code and not no_tests:
        findings.append(_tests(home, project.checks.code, project.checks.timeout_s))
    return _tell([replace(finding, text=project.masked(finding.text)) for finding in findings], as_json)


def _tell(findings: list[CheckResult], as_json: bool) -> int:
    good = all(f.ok for f in findings)
    emit(as_json, {"ok": good, "findings": [f.facts() for f in findings]}, lambda: _render(findings))
    return ExitCode.PASSED if good else ExitCode.NO


def _beside(folder: Path) -> list[CheckResult]:
    """Projects of other tools in this folder."""
    return [CheckResult(one.file, True, one.text) for one in elsewhere.neighbours(folder)]


def _summary(project: Project) -> str:
    model = f"model of {project.model.label}" if project.model else "no model"
    data, steps = plural(len(project.data), "dataset"), plural(len(project.steps), "step")
    return f"{data}, {steps}, {model}, {plural(len(project.gates), 'gate')}"


def _rollouts(home: Home, project: Project) -> list[CheckResult]:
    """How long each environment's rollout takes at current traffic."""
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
    """Whether the quality of what serves can be judged."""
    model = project.model
    if model is None or not project.environments:
        return []
    rates = [facts.get("rates") or {} for facts in _server_environments(home).values()]
    coming = [rate["labels_per_s"] for rate in rates if rate.get("labels_per_s")]
    holdout_s = model.holdout.last_s if model.event_time is not None else None
    by_day = model.event_time is not None
    text, can = judge_quality.outlook(project.monitor, by_day=by_day, holdout_s=holdout_s, labels_per_s=max(coming, default=None))
    return [CheckResult("monitor", True, text, warning=not can)]


def _gates(home: Home, project: Project) -> list[CheckResult]:
    """Whether the holdout has as many rows as the gates on the champion need, by what the newest evaluation found."""
    found = list[CheckResult]()
    if project.model is not None and project.gates and (short := judge_sample_size.short_holdout(project.model.holdout.last_s)):
        found.append(CheckResult("holdout", True, short, warning=True))
    if not home.ledger_file.is_file():
        return found
    with home.ledger_to_read() as ledger:
        newest = EvaluationStore(ledger, project.name).newest()
    for gate in project.gates if newest is not None else ():
        if newest is not None and (told := judge_sample_size.outlook(gate, newest.evaluation)) is not None:
            found.append(CheckResult(f"gate {gate.text}", True, told[0], warning=not told[1]))
    return found


def _server_environments(home: Home) -> dict[str, Any]:
    """The running server's environments; none without a server."""
    try:
        return dict(home.server().status()["environments"])
    except ServingError:
        return {}


def _data(home: Home, project: Project, source: DataSource, checked: dict[str, AcceptedFiles]) -> list[CheckResult]:
    if served_predictions.is_log(source.source):
        return [CheckResult(source.name, True, f"served predictions of {source.source.removeprefix('log:')} with their labels")]
    found, whole_bytes, whole = list[CheckResult](), 0, 0
    try:
        if not source.opaque:
            return _tables(home, project, source, checked) or [CheckResult(source.name, False, f"no file matches {source.shown}")]
        for each, path in sources.read(source, home.path):
            if path is None:
                found.append(CheckResult(each.name, False, each.problem or "cannot be read"))
            else:
                whole, whole_bytes = whole + 1, whole_bytes + each.size_bytes
    except DataError as error:
        return [*found, CheckResult(source.name, False, f"{source.shown}: {error.message}")]
    if whole:
        found.append(CheckResult(source.name, True, f"{plural(whole, 'file')}, {whole_bytes:,} bytes, stored as they are"))
    return found or [CheckResult(source.name, False, f"no file matches {source.shown}")]


def _tables(home: Home, project: Project, source: DataSource, checked: dict[str, AcceptedFiles]) -> list[CheckResult]:
    """Checks each file against its contract and the dataset's table."""
    if personal_columns.rule_of(source).hash and home.ledger_file.is_file():
        with home.ledger_to_read() as ledger:
            try:
                personal_key.demand_kept(home.state, ledger)
            except StoreError as error:
                return [CheckResult(source.name, False, f"{error.message} ({error.where}). {error.hint or ''}".rstrip())]
    with personal_columns.looks(source, home.path, home.state) as look:
        return _check_files(home, project, source, look, checked)


def _check_files(
    home: Home, project: Project, source: DataSource, look: Look, checked: dict[str, AcceptedFiles]
) -> list[CheckResult]:
    before, accepted = _read_accepted(home, project, source)
    new = (DatasetFile(each.name, path) for each, path in look() if path is not None)
    decided = table_types.of_files(source, before, (), new)
    base: tuple[str, ...] = ()  # of a file that may be accepted
    accepted_files = checked[source.name] = AcceptedFiles(home, project, source, decided.type)

    def referenced(one: ColumnReference, name: str) -> ReferencedColumn:
        if one.dataset not in checked:  # nothing of it could be checked: what turns accepted stands
            settled, _ = _read_accepted(home, project, project.data[one.dataset])
            kind = TableType() if settled is None else settled.type
            checked[one.dataset] = AcceptedFiles(home, project, project.data[one.dataset], kind)
        return checked[one.dataset].referenced_column(one, name if one.dataset == source.name else "")

    found, discarded, read = list[CheckResult](), list[CheckResult](), False
    for each, path in _look_again(look, found, any(one.dataset == source.name for one in source.references)):
        if path is None:
            found.append(CheckResult(each.name, False, each.problem or "cannot be read"))
            continue
        if who := accepted_files.discarded_by(each.name, path):
            discarded.append(CheckResult(each.name, True, f"discarded by {who}: no turn judges it again", warning=True))
            continue
        known = before.type.columns if before is not None and accepted - {each.name} else ()
        beside = tuple(dict.fromkeys([*known, *base]))
        finding, columns, good = _table(each.name, path, source, decided, beside, accepted_files, referenced)
        if finding.ok:
            accepted_files.add(each.name, path, good)
            decided = replace(decided, type=accepted_files.kind)
        found += [finding, *(_alone(each.name, path, project, source, decided) if finding.ok else ())]
        read |= bool(columns)
        base = tuple(dict.fromkeys([*base, *(columns if finding.ok else ())]))
    if not read:
        return [*found, *discarded]
    return [
        *found,
        *discarded,
        *_repeats(look, source, decided, [f.what for f in found if f.ok]),
        *_personal_data(home, source, [f.what for f in found]),
        *_unjudged(source),
        _as_read(source, decided),
        *_model_columns(project.model, source, decided),
    ]


def _look_again(look: Look, found: list[CheckResult], to_itself: bool) -> Iterator[tuple[FoundFile, Path | None]]:
    """The files; where their rows refer to each other, those that failed once more, as long as fewer do each time."""
    yield from look()
    failed, before = {one.what for one in found if not one.ok}, 0
    while to_itself and failed and len(failed) != before:
        before, names = len(failed), failed
        found[:] = [one for one in found if one.what not in names]
        yield from (one for one in look() if one[0].name in names)
        failed = {one.what for one in found if not one.ok}


def _model_columns(model: Model | None, source: DataSource, decided: TypeDecision) -> list[CheckResult]:
    """Columns that the model names and its dataset does not have. Of a step's result nothing is known before it ran."""
    if model is None or model.rows != source.name:
        return []
    found = []
    if missing := missing_columns(model.columns, decided.type.columns):
        found.append(CheckResult("noria.yaml", False, f"the model names columns that {source.name} does not have: {missing}"))
    personal = source.contract.personal_data if source.contract is not None else None
    if personal is not None and model.key in personal.hash:
        text = f"{model.key} names the rows and is hashed on the way in: requests and labels must send its hash, not its value"
        found.append(CheckResult("noria.yaml", True, text, warning=True))
    return found


def _personal_data(home: Home, source: DataSource, names: list[str]) -> list[CheckResult]:
    """Personal data that no contract speaks of, in the newest file by name."""
    contract = source.contract
    if contract is not None and contract.personal_data is not None:
        return []
    from noria.data import judge_personal_data, judge_repeats  # phonenumbers and stdnum: heavier than the rest of this command

    newest = judge_repeats.by_age(set(names))[-1]
    for each, path in sources.read(source, home.path):
        if each.name != newest or path is None:
            continue
        with contextlib.suppress(DataError):  # said already
            found = judge_personal_data.find(files.open_table(path, each.name, source.csv).table)
            if found:
                text = f"holds personal data that no contract speaks of: {'; '.join(one.words() for one in found)}"
                return [CheckResult(newest, True, f"{text}. `personal_data` in a contract forbids or allows it", warning=True)]
    return []


def _unjudged(source: DataSource) -> list[CheckResult]:
    contract = source.contract
    return [CheckResult(source.name, True, contract.unjudged_words, warning=True)] if contract and contract.unjudged else []


def _as_read(source: DataSource, decided: TypeDecision) -> CheckResult:
    key = f"; of rows with the same {', '.join(source.key)} the newest file's stands" if source.key else ""
    return CheckResult(source.name, True, f"{table_types.words(decided)}{key}")


def _repeats(look: Look, source: DataSource, decided: TypeDecision, good: list[str]) -> list[CheckResult]:
    """Whether the newest file repeats the rows of the file before it."""
    names = list(dict.fromkeys(good))
    if len(names) < 2 or not sources.nearby(source):
        return []
    paths = {each.name: path for each, path in look() if path is not None}

    def read(name: str) -> pl.DataFrame:
        return files.read_table(paths[name], name=name, kind=decided.type, dialect=source.csv)

    found = repeats.newest(names, names, source.key, read)
    return [CheckResult(source.name, True, found.words(source.name), warning=not source.key)] if found is not None else []


def _read_accepted(home: Home, project: Project, source: DataSource) -> tuple[Settled | None, set[str]]:
    """Returns the dataset's table as earlier files decided it, if there were any, and the names of those files."""
    if not home.ledger_file.is_file():
        return None, set()
    with home.ledger_to_read() as ledger:
        before = TableStore(ledger, project.name).get(source.name)
        names = set(DataStore(ledger, project.name).accepted_files(source.name))
    return (before, names) if before is not None and before.source == table_types.identity(source, home.state) else (None, set())


def _table(
    name: str,
    path: Path,
    source: DataSource,
    decided: TypeDecision,
    base: tuple[str, ...],
    accepted: AcceptedFiles,
    referenced: referenced_rows.Read,
) -> tuple[CheckResult, tuple[str, ...], pl.Series | None]:
    """Checks one file against its contract and the dataset's table; returns its columns, and which rows are good if not all."""
    try:
        opened = files.open_table(path, name, source.csv)
    except DataError as error:
        return CheckResult(name, False, f"{error.message}{f' ({error.hint})' if error.hint else ''}"), (), None
    kind, anew = table_types.for_file(source, decided, opened), not accepted.has(name, path)
    kind = retyped.with_other_types(source, kind, opened, functools.partial(accepted.looks_beside, name)) if anew else kind
    keys = functools.partial(accepted.keys_beside, name) if anew else lambda: None
    now, columns = accepted.now() if anew else None, tuple(opened.table.columns)
    batch = accepted.batch(name) if anew else None
    values = functools.partial(referenced_rows.values_of, source, name, referenced) if anew else lambda: None
    ruling, divided, example = check.ruling(source, kind, opened, base, now, keys, batch, values)
    if kind.retyped and (ruling.verdict.passed or divided.good is not None):
        accepted.kind = kind.type
    text = ruling.verdict.sentence()
    if not ruling.verdict.passed:
        if not anew and accepted.released_by(name):
            return CheckResult(name, True, f"released by {accepted.released_by(name)}: {text}", warning=True), columns, None
        if divided.good is not None:
            return CheckResult(name, True, divided.text, warning=True), columns, divided.good
        text = "; ".join(filter(None, [text, divided.text]))
    if batch is not None and batch.found is not None and source.contract is not None and source.contract.anomalies is not None:
        text += "" if batch.found.outcome is Outcome.FAIL else f"; {batch.found.text}"
    for one in batch.distributions if batch is not None else ():
        text += "" if one.outcome is Outcome.FAIL else f"; {one.text}"
    finding = CheckResult(
        name,
        ruling.verdict.passed,
        f"{text}: {example}" if example else text,
        warning=ruling.verdict.passed and bool(ruling.warnings),
    )
    return finding, columns, None


def _links(home: Home, project: Project) -> list[CheckResult]:
    """Links in the code that cannot be sealed."""
    bad = sealable_code.bad_links(home.path, project) if project.model is not None else ""
    return [CheckResult("code", False, f"{bad}. {sealable_code.CURE}")] if bad else []


def _alone(name: str, path: Path, project: Project, source: DataSource, decided: TypeDecision) -> list[CheckResult]:
    """Inputs that predict the label by themselves, when the model is trained on this file."""
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
