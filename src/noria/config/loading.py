"""noria.yaml -> a typed Project: every key read by the table of keys, every name resolved, every default filled in."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from noria.config import document, keys
from noria.config.behaviours import read_behaviours
from noria.config.condition import dotted_names
from noria.config.contracts import load_contract, read_bytes
from noria.config.document import DocumentItem, nearest
from noria.config.functions import PythonSource, exists
from noria.config.gate import demand_task
from noria.config.metrics import read_metrics, resolve_gates
from noria.config.named_arguments import demand_also_taken, read_also, read_feature_params
from noria.config.project import (
    PRODUCTION,
    Checks,
    Console,
    DataSource,
    Environment,
    GitWatch,
    Holdout,
    Model,
    Project,
    Query,
    Serving,
)
from noria.config.reading import Memory, touch
from noria.config.recording import read_log
from noria.config.references import demand_references
from noria.config.rollout import read_rollout
from noria.config.search import demand_train, given_by_name, read_search
from noria.config.shapes import Section
from noria.config.steps import demand_train_params, read_steps
from noria.kernel import names
from noria.kernel.access import Access, RateLimit
from noria.kernel.contract import Contract, PersonalDataRule
from noria.kernel.dialect import PLAIN, Dialect
from noria.kernel.errors import ConfigError
from noria.kernel.policy import Gate, MonitorPolicy, PolicyChanges, RetrainPolicy, UndecidedPolicy
from noria.kernel.task import DEFAULT_TASK, Task
from noria.kernel.tasks import find_metric
from noria.kernel.workers import TWO, Workers

FILE = "noria.yaml"
PARAMS = "params.yaml"
DATABASES = frozenset(
    ["postgresql", "postgres", "mysql", "mariadb", "sqlite", "oracle", "mssql", "duckdb", "snowflake", "bigquery"]
)
KNOWN = Memory[Project]()
COST = "decision: {cost: {false_positive: 1, false_negative: 40}}"
INIT = "`noria init` writes one; or name the project's folder."


def load(home: Path, *, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None) -> Project:
    """The project in ``home``; ``${VAR}`` in addresses and secrets comes from ``environ`` (default: the process's own).

    ``overrides`` are parameters by dotted name that take the place of those in the params file. Without both, a project that
    was read before is the same object again, until a file that it depends on changes.

    Raises ConfigError with file, line and column for the first thing that cannot be.
    """
    if environ is None and not overrides and home.is_absolute():
        return KNOWN.of(home, lambda: _read(home, os.environ, {}))
    return _read(home, os.environ if environ is None else environ, overrides or {})


def _read(home: Path, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Project:
    raw = read_bytes(home / FILE, FILE, INIT)
    item = document.read(raw, FILE, environ, keys.EXPANDED)
    if item.value is None:
        raise ConfigError("is empty", where=FILE, hint=INIT)
    root = keys.PROJECT.read(item)
    data = _data(home, root, list(root.get("environments") or {PRODUCTION: None}))
    params_file, params = _params(home, root)
    params = overridden(params, overrides)
    source = PythonSource(home)
    steps = read_steps(root, source, data, params)
    own = read_metrics(root, source)
    gates = resolve_gates(root, own, steps.each)
    model = _model(root, source, data, [name for name in steps.each if "@" not in name], gates, params)
    environments = _environments(root, model)
    if model is not None and model.search is None:
        demand_train_params(root.get("model").at("train"), source, params, given_by_name(root.get("model")))
    return Project(
        name=root.get("project"),
        goal=root.get("goal", ""),
        home=home,
        digest=names.digest_bytes(raw),
        data=data,
        params=params,
        params_file=params_file,
        steps=steps.each,
        wide=steps.wide,
        model=model,
        checks=Checks(
            **_section_fields(root, "checks", code="code", timeout_s="timeout"), behaviours=read_behaviours(root, source, model)
        ),
        gates=gates,
        environments=environments,
        serving=_serving(root, home, model),
        console=Console(**_section_fields(root, "console", host="host", port="port", hosts="hosts")),
        monitor=_monitor(root),
        retrain=_retrain(root),
        metrics=own,
        git=GitWatch(**_section_fields(root, "git", branch="branch", repository="repository", every_s="every")),
        secrets=_of_addresses(item),
        not_enough_data=UndecidedPolicy(root.get("not_enough_data", UndecidedPolicy.REFUSE)),
        policy_changes=_policy_changes(root, environments.values()),
    )


def load_params(path: Path, *, shown: str) -> dict[str, Any]:
    """The parameters in a YAML file that errors call ``shown``: a mapping of plain values. Raises ConfigError."""
    item = document.read(read_bytes(path, shown), shown)
    if item.value is None:
        return {}
    if not isinstance(item.value, dict):
        raise item.error(f"expected a mapping of parameters, found {item.kind}")
    values: dict[str, Any] = item.plain()
    return values


def overridden(params: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with some of them replaced, by dotted name. Raises ConfigError for a name that is not there."""
    found = copy.deepcopy(dict(params))
    for name, value in overrides.items():
        *sections, last = name.split(".")
        place: Any = found
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            every = dotted_names(params)
            known = [one for one in every if not any(other.startswith(f"{one}.") for other in every)]
            raise ConfigError(f"there is no parameter {name!r}", hint=nearest(name, known) or "The params file has none.")
        place[last] = value
    return found


def _section_fields(root: Section, key: str, **fields: str) -> dict[str, Any]:
    section: Section | None = root.get(key)
    return section.given(**fields) if section is not None else {}


def _serving(root: Section, home: Path, model: Model | None) -> Serving:
    given = _section_fields(root, "serving", host="host", port="port", max_body_bytes="max_body", max_rows="max_rows")
    access = _section_fields(root, "serving", keys_file="keys_file", hosts="hosts", rate="rate", log="access_log")
    if "keys_file" in access:
        access["keys_file"] = str((home / Path(access["keys_file"]).expanduser()).absolute())
    if "rate" in access:
        access["rate"] = RateLimit(*access["rate"])
    return Serving(**given, workers=_workers(root), log=read_log(root, model), access=Access(**access))


def _workers(root: Section) -> Workers:
    """A number, or what is between two."""
    section = root.get("serving")
    given: int | Section | None = section.get("workers") if section is not None else None
    if given is None:
        return TWO
    if not isinstance(given, Section):
        return Workers(given, given)
    least, most = given.get("min", 1), given.get("max")
    if least > most:
        raise given.at("min").error(f"min {least} is above max {most}")
    return Workers(least, most)


def _monitor(root: Section) -> MonitorPolicy:
    section = root.get("monitor")
    for key in ("margin", "drift"):
        if section is not None and section.get(key, 0.0) < 0:
            raise section.at(key).error(f"{key} cannot be below zero")
    return MonitorPolicy(
        **_section_fields(
            root,
            "monitor",
            every_s="every",
            label_delay_s="label_delay",
            min_labelled="min_labelled",
            false_alarm="false_alarm",
            margin="margin",
            drift="drift",
        )
    )


def _retrain(root: Section) -> RetrainPolicy:
    section = root.get("retrain")
    if section is None:
        return RetrainPolicy()
    count, period_s = section.get("at_most", (None, None))
    return RetrainPolicy(**section.given(on="on", schedule="schedule"), at_most_count=count, at_most_period_s=period_s)


def _data(home: Path, root: Section, environments: Iterable[str]) -> dict[str, DataSource]:
    sections: dict[str, Section] = root.get("data", {})
    data = {name: _dataset(home, name, section, environments) for name, section in sections.items()}
    demand_references(data, sections)
    return data


def _dataset(home: Path, name: str, section: Section, environments: Iterable[str]) -> DataSource:
    _demand_source(section, environments)
    contract: Contract | None = None
    contract_file: str | None = section.get("contract")
    if contract_file is not None:
        contract = load_contract(_file(home, section.at("contract")), shown=contract_file, table=name)
    if contract_file is not None and section.get("format") == "files":
        raise section.at("contract").error("files that are not read have no contract", "Leave out contract, or format: files.")
    _demand_treatable(section, contract)
    if "csv" in section and ("sql" in section or section.get("format") == "files"):
        raise section.at("csv").error("csv is for text files, and these files are not read as text", "Leave out csv.")
    if "key" in section and (section.get("format") == "files" or section.get("source", "").startswith("log:")):
        raise section.at("key").error("a key is for rows of tables, and these files are not read as tables", "Leave out key.")
    query: Section | None = section.get("sql")
    return DataSource(
        name,
        section.get("source", ""),
        contract,
        contract_file,
        sql=Query(**query.given(url="url", query="query", cursor="cursor")) if query is not None else None,
        secrets=_secrets(section.item),
        csv=_dialect(section),
        key=tuple(section.get("key", ())),
        **section.given(settle_s="settle", format="format", options="options", every_s="every", pin="pin"),
    )


def _demand_treatable(section: Section, contract: Contract | None) -> None:
    """Raise ConfigError where a contract treats columns of files whose bytes must stay, or that Noria does not take in."""
    if contract is None or contract.personal_data is None or not contract.personal_data.treated:
        return
    if section.get("pin") == "version":
        text = f"`pin: version` needs the bytes of its objects unchanged, and {contract.source} hashes or drops columns"
        raise section.at("pin").error(text, "Leave out pin, or `hash` and `drop` in the contract.")
    if "sql" in section:
        text = f"{contract.source} hashes or drops columns, which the database can do"
        raise section.at("sql").error(text, "Leave them out in the query, or hash them there.")
    if section.get("source", "").startswith("log:"):
        text = f"{contract.source} hashes or drops columns, and the prediction log is stored before"
        raise section.at("contract").error(text, "`serving: {log: {redact: ...}}` hashes or leaves out what is logged.")


def _dialect(section: Section) -> Dialect:
    given: Section | None = section.get("csv")
    if given is None:
        return PLAIN
    made = Dialect(**given.given(separator="separator", encoding="encoding", decimal="decimal", nulls="nulls", quote="quote"))
    if made.separator and made.separator in (made.decimal, made.quote):
        raise given.at("separator").error("the separator of cells cannot also be the decimal point or the quote")
    return made


def _demand_source(section: Section, environments: Iterable[str]) -> None:
    """Raises ConfigError unless a dataset comes from exactly one place."""
    if ("source" in section) == ("sql" in section):
        missing = "'source' is missing" if "source" not in section else "give source or sql, not both"
        raise section.item.error(missing, "source: a path, a glob or an address; or sql: {url: ..., query: ...}.")
    if "sql" in section and section.get("pin") == "version":
        raise section.at("pin").error("the result of a query has no fixed version", "Leave out pin.")
    if "sql" in section and section.get("format") == "files":
        raise section.at("format").error("the result of a query is a table")
    item = section.at("source")
    if "source" not in section:
        return
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", item.value)
    if scheme is not None and scheme.group(1).partition("+")[0].lower() in DATABASES:
        raise item.error(f"{scheme.group(1)}:// is a database", "Write sql: {url: ..., query: ...} in place of source.")
    here = scheme is None or scheme.group(1) == "file"
    if "options" in section and here:
        raise section.at("options").error("options are for addresses like s3://...")
    if section.get("pin") == "version" and here:
        raise section.at("pin").error("only objects at an address like s3://... are pinned by their version", "Leave out pin.")
    if item.value.startswith("log:"):
        _demand_one_of(item.value.removeprefix("log:"), environments, item, "environment")


def _secrets(item: DocumentItem) -> tuple[tuple[str, str], ...]:
    """Everything below ``item`` that came from the environment, the longest first."""
    found = set(item.secrets)
    children = item.value.values() if isinstance(item.value, dict) else item.value if isinstance(item.value, list) else ()
    for child in children:
        found |= set(_secrets(child))
    return tuple(sorted(found, key=lambda secret: (-len(secret[0]), secret)))


def _of_addresses(item: DocumentItem) -> tuple[tuple[str, str], ...]:
    """What came from the environment into the addresses of data and of the repository."""
    git = item.value.get("git")
    places = [item.value.get("data"), git.value.get("repository") if git is not None and isinstance(git.value, dict) else None]
    found = {secret for place in places if place is not None for secret in _secrets(place)}
    return tuple(sorted(found, key=lambda secret: (-len(secret[0]), secret)))


def _file(home: Path, item: DocumentItem) -> Path:
    """A file of the project that must be there."""
    relative = PurePosixPath(item.value)
    if relative.is_absolute() or ".." in relative.parts:
        raise item.error(
            f"{item.value} lies outside the project", "It is versioned with the code: name it relative to noria.yaml."
        )
    path = home / relative
    if not exists(path):
        raise item.error(f"there is no file {item.value}", nearest(item.value, _beside(home, relative)))
    return path


def _beside(home: Path, relative: PurePosixPath) -> list[str]:
    """The files in the folder of ``relative``, from which a hint is chosen."""
    try:
        found = [(relative.parent / other.name).as_posix() for other in (home / relative).parent.iterdir() if other.is_file()]
    except (OSError, ValueError):  # no such folder, or none that could be
        return []
    return sorted(found)


def _params(home: Path, root: Section) -> tuple[str | None, dict[str, Any]]:
    name: str | None = root.get("params")
    if name is not None:
        return name, load_params(_file(home, root.at("params")), shown=name)
    if touch(home / PARAMS).is_file():
        return PARAMS, load_params(home / PARAMS, shown=PARAMS)
    return None, {}


def _model(
    root: Section,
    source: PythonSource,
    data: Mapping[str, DataSource],
    steps: list[str],
    gates: tuple[Gate, ...],
    params: Mapping[str, Any],
) -> Model | None:
    section: Section | None = root.get("model")
    if section is None:
        return None
    task = Task(section.get("task", DEFAULT_TASK))
    for index, gate in enumerate(gates):
        _demand_task(gate, task, root.get("metrics", {}), root.element("gates", index))
        _demand_needs(gate, section, root.element("gates", index))
    for key in ("train", "features"):
        if key in section:
            source.find(section.at(key))
    target = demand_train(section)
    search = read_search(section, task, source, params)
    rows = _rows(section, data, steps)
    also = read_also(section, rows, data, steps)
    model = Model(
        rows=rows,
        train=target,
        task=task,
        search=search,
        inputs=_inputs(section, data.get(rows), _hashed(data)),
        holdout=_holdout(section),
        **_decision(section, task),
        **_forecast(section, task),
        groups=section.get("groups", section.get("query")),
        slices=tuple(dict.fromkeys(gate.by for gate in gates if gate.by is not None)),
        also=also,
        feature_params=read_feature_params(section, source, params, also),
        **section.given(
            label="label",
            features="features",
            key="key",
            event_time="event_time",
            weight="weight",
            query="query",
            timeout_s="timeout",
            memory_bytes="memory",
        ),
    )
    demand_also_taken(model, section, source, params)
    return model


def _decision(section: Section, task: Task) -> dict[str, Any]:
    found: Section | None = section.get("decision")
    if found is None:
        return {}
    threshold, cost = found.get("threshold"), found.get("cost")
    here = section.at("decision")
    if (threshold is None) == (cost is None):
        raise here.error("a decision has either a threshold or a cost", COST)
    if not task.definition.two_classes:
        message = f"a {'cost' if threshold is None else 'threshold'} is for two classes, and the task is {task}"
        raise here.error(message, "Leave out decision.")
    return {"threshold": threshold, "costs": (cost.get("false_positive"), cost.get("false_negative")) if cost else None}


def _demand_task(gate: Gate, task: Task, own: Iterable[str], item: DocumentItem) -> None:
    try:
        demand_task(gate, task, own)
    except ConfigError as error:
        raise item.error(error.message, error.hint) from error


def _forecast(section: Section, task: Task) -> dict[str, Any]:
    """What forecasts are measured by. Raises ConfigError for what cannot be."""
    if "season" in section:
        if task.definition.has_classes:
            raise section.at("season").error(f"a season is of numbers, and the task is {task}", "Leave out season.")
        if "event_time" not in section:
            raise section.at("season").error("a season needs event_time: the rows of a series follow each other in it")
    return dict(section.given(quantile="quantile", season="season", series="series"))


def _demand_needs(gate: Gate, model: Section, item: DocumentItem) -> None:
    """Raises ConfigError when a metric needs a key of the model that is not set."""
    known = find_metric(gate.metric)
    if known is None or not known.needs:
        return
    found: Any = model
    for key in known.needs.split("."):
        found = None if found is None else found.get(key)
    if found is None:
        example = {"query": "query: session", "quantile": "quantile: 0.9", "season": "season: 7"}.get(known.needs, COST)
        raise item.error(f"{gate.metric} needs `model.{known.needs}`", f"Set `model: {{{example}}}`.")


def _rows(section: Section, data: Mapping[str, DataSource], steps: list[str]) -> str:
    if "rows" in section:
        rows: str = section.get("rows")
        _demand_one_of(rows, [*steps, *data], section.at("rows"), "step or dataset")
        return rows
    if steps:
        return steps[-1]
    if len(data) != 1:
        message = "'rows' is missing: there is no step, and not exactly one dataset"
        raise section.item.error(
            message, f"rows: the labelled table; one of {', '.join(data) or 'the datasets, once there are some'}."
        )
    return next(iter(data))


def _hashed(data: Mapping[str, DataSource]) -> dict[str, str]:
    """Each column that a contract hashes, and that contract's file."""
    rules = [(one.contract_file or "", one.contract.personal_data) for one in data.values() if one.contract is not None]
    return {name: file for file, rule in rules if rule is not None for name in rule.hash}


def _inputs(section: Section, dataset: DataSource | None, hashed: Mapping[str, str]) -> tuple[str, ...]:
    taken = {
        name: key for key in ("label", "key", "event_time", "weight", "groups", "query") if (name := section.get(key)) is not None
    }
    if "inputs" not in section:  # the contract's columns; without one the table shows them, when it is there
        known = dataset.contract.columns if dataset and dataset.contract else ()
        if hashed and not known and not set(hashed) <= set(taken):
            first = next(iter(hashed))
            text = f"'inputs' is missing: {hashed[first]} hashes {first}, and a request would send it as it is"
            raise section.item.error(text, "inputs: the columns that the model learns from, without hashed ones.")
        dropped = (dataset.contract.personal_data or PersonalDataRule()).drop if dataset and dataset.contract else ()
        return tuple(c.name for c in known if c.name not in taken and c.name not in hashed and c.name not in dropped)
    inputs: tuple[str, ...] = section.get("inputs")
    if not inputs:
        raise section.at("inputs").error("a model needs at least one input")
    for index, name in enumerate(inputs):
        if taken.get(name) == "label":
            raise section.element("inputs", index).error(f"{name!r} is the label, which cannot be an input")
        if taken.get(name) in ("weight", "groups", "query"):
            raise section.element("inputs", index).error(f"{name!r} is the column of {taken[name]}, which is only for training")
        if name in hashed:
            text = f"{hashed[name]} hashes {name!r}, and a request would send it as it is, which the model never saw"
            raise section.element("inputs", index).error(text, "Leave it out of inputs, or make another column of it in a step.")
    return inputs


def _holdout(section: Section) -> Holdout:
    given: Section | None = section.get("holdout")
    if given is None:
        return Holdout(fraction=0.2)
    if "last" in given and "fraction" in given:
        raise given.item.error("give last or fraction, not both")
    if "last" in given and "event_time" not in section:
        raise given.at("last").error("holding out the last rows requires event_time")
    fraction = given.get("fraction", None if "last" in given else 0.2)
    return Holdout(last_s=given.get("last"), fraction=fraction, budget=given.get("budget"))


def _environments(root: Section, model: Model | None) -> dict[str, Environment]:
    sections: dict[str, Section] = root.get("environments") or {}
    if not sections:
        return {PRODUCTION: Environment(PRODUCTION)}
    found: dict[str, Environment] = {}
    for name, section in sections.items():
        after = section.get("after")
        if after is not None:
            _demand_earlier(after, name, found, sections, section.at("after"))
        found[name] = Environment(
            name, after, section.get("approvals", 0), read_rollout(section, model), section.get("freeze", ())
        )
    return found


def _policy_changes(root: Section, environments: Iterable[Environment]) -> PolicyChanges:
    """As it is said; else a project that asks people about releases asks them about its policy, too."""
    asks = any(one.approvals or any(step.approvals for step in one.rollout.steps) for one in environments)
    return PolicyChanges(root.get("policy_changes", PolicyChanges.APPROVE if asks else PolicyChanges.ALLOW))


def _demand_earlier(after: str, name: str, found: Iterable[str], every: Iterable[str], item: DocumentItem) -> None:
    """``after`` names an environment that stands above: so there is no cycle, and the order is the order of release."""
    _demand_one_of(after, every, item, "environment")
    if after not in found:
        raise item.error(f"{name} comes after {after}, which must be listed above it")


def _demand_one_of(name: str, known: Iterable[str], item: DocumentItem, noun: str) -> None:
    words = list(known)
    if name not in words:
        raise item.error(f"there is no {noun} {name!r}", nearest(name, words))
