"""Orders: the steps of a project as tasks for an executor, each with all that its result depends on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from noria.config import Step
from noria.config.condition import find
from noria.data.store import DataStore
from noria.kernel import names
from noria.kernel.errors import StepError
from noria.kernel.words import plural
from noria.pipeline import environment, source_code
from noria.pipeline.context import PinnedRun, PipelineContext, StartedRun
from noria.pipeline.executors.task import INPUT, Resources, StepTask
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.model_facts import SEED
from noria.pipeline.run import StepRecord, StepState
from noria.pipeline.steps import StepOrder, StepOutput, output

OUTPUT = "output"
TABLES = frozenset({".parquet", ".pq", ".csv", ".tsv", ".ndjson", ".jsonl", ".arrow", ".ipc", ".feather"})


def code_check(run: StartedRun, command: str) -> StepOrder:
    """The project's tests as a step: stale when any tracked file of the commit may have changed."""
    command = stopping(command)
    facts = StepFacts(code=run.dirty or run.commit or "", command=command, environment=environment.digest(run.environment))
    resources = Resources(timeout_s=run.project.checks.timeout_s)
    name = "checks.code"
    task = StepTask(f"{run.run_id}/{name}", run.tree_id, command=command, roots=run.roots, resources=resources)
    return StepOrder(name, facts, task)


def stopping(command: str) -> str:
    """The shell commands such that they stop at the first that fails, as in Make and in CI."""
    return f"set -e\n{command}" if "\n" in command.strip() or ";" in command else command


def user_step(context: PipelineContext, pinned_run: PinnedRun, step: Step, done: Mapping[str, StepRecord]) -> StepOrder:
    """One step of the project: a function wired by name, or a command. Raises StepError for a file that is not there."""
    if step.call:
        facts, task = _call(context, pinned_run, step, step.call, done)
    else:
        facts, task = _command(context, pinned_run, step, done)
    return StepOrder(step.name, facts, task, retries=step.retries, frozen=step.frozen, always=step.always)


class TaskInputs:
    """The files that a task reads, under names that tell what they are."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def add(self, digest: str, name: str) -> str:
        """How a job speaks of the file: ``name`` gives the suffix, which tells the format."""
        known = f"{digest[:32]}{''.join(PurePosixPath(name).suffixes[-2:])[-24:]}"
        self.files[known] = digest
        return INPUT + known

    def argument(
        self, context: PipelineContext, pinned_run: PinnedRun, name: str, done: Mapping[str, StepRecord]
    ) -> dict[str, Any]:
        """How a step process gets a dataset or another step's result; see ``work.tables.argument``."""
        if name in pinned_run.project.wide:
            each = {one.partition("@")[2]: self.argument(context, pinned_run, one, done) for one in pinned_run.project.wide[name]}
            return {"kind": "wide", "items": each}
        if name in done:
            return self._left(output(context, done[name]), name)
        snapshot = DataStore.of(context).snapshot(pinned_run.pins.snapshots[name])
        if pinned_run.project.data[name].opaque:
            self.files |= {f"{name}/{_below(pin.name)}": pin.digest for pin in snapshot.files}
            return {"kind": "folder", "path": INPUT + name}
        files = [self.add(pin.digest, pin.name) for pin in snapshot.files]
        named = [pin.name for pin in snapshot.files]
        return {"kind": "table", "files": files, "names": named, **_read_as(pinned_run, name)}

    def _left(self, made: StepOutput, name: str) -> dict[str, Any]:
        if OUTPUT in made.files:
            kind = str(made.result.get("format", "arrow"))
            suffix = {"arrow": ".arrow", "model": ".joblib"}.get(kind, ".json")
            return {"kind": "output", "path": self.add(made.files[OUTPUT], f"{name}{suffix}"), "format": kind}
        if len(made.files) != 1:
            raise StepError(
                f"leaves {plural(len(made.files), 'file')}, so it cannot be an argument",
                where=f"step {name}",
                hint="Make it one out.",
            )
        ((path, digest),) = made.files.items()
        suffixes = [suffix for suffix in PurePosixPath(path).suffixes if suffix not in (".gz", ".zst")]
        if suffixes and suffixes[-1].lower() in TABLES:
            return {"kind": "table", "files": [self.add(digest, path)]}
        kind = "json" if suffixes and suffixes[-1].lower() == ".json" else "file"
        return {"kind": "output", "path": self.add(digest, path), "format": kind}


def _read_as(pinned_run: PinnedRun, name: str) -> dict[str, Any]:
    """How the files of a dataset are read, for a step process."""
    kind = pinned_run.tables.get(name)
    dialect = msgspec.to_builtins(pinned_run.project.data[name].csv)
    key = pinned_run.project.data[name].key
    return (
        {"dialect": dialect} | ({"key": list(key)} if key else {}) | ({} if kind is None else {"type": msgspec.to_builtins(kind)})
    )


def table_digests(pinned_run: PinnedRun, inputs: Iterable[str], done: Mapping[str, StepRecord]) -> dict[str, str]:
    """Dataset -> digest of how its files are read, of those among a step's inputs."""
    return {
        name: names.digest_bytes(msgspec.json.encode(_as_read(pinned_run, name), order="sorted"))
        for name in inputs
        if name in pinned_run.tables and name not in done
    }


def _as_read(pinned_run: PinnedRun, name: str) -> list[object]:
    """All that decides how a dataset's files become one table; a key is named where there is one alone, so that what was made
    without stays known."""
    source = pinned_run.project.data[name]
    return [pinned_run.tables[name], source.csv, *([source.key] if source.key else [])]


def _below(name: str) -> str:
    """The name of a file of a dataset as a path below a folder; one that is not the project's own keeps its full path."""
    return name.partition("://")[2].lstrip("/") if "://" in name else name.lstrip("/")


def _call(
    context: PipelineContext, pinned_run: PinnedRun, step: Step, target: str, done: Mapping[str, StepRecord]
) -> tuple[StepFacts, StepTask]:
    params = {**_call_params(pinned_run, step), **step.item}
    files = source_code.imports_closure(pinned_run.code_paths, target.partition(":")[0])
    facts = StepFacts(
        code=names.digest_bytes(json.dumps([target, files], sort_keys=True).encode()),
        files=files,
        inputs=_named_inputs(pinned_run, step, done),
        params=_digests({**params, **{f"env.{name}": value for name, value in step.env.items()}}),
        environment=environment.digest(pinned_run.environment),
        tables=table_digests(pinned_run, _named_inputs(pinned_run, step, done), done),
    )
    inputs = TaskInputs()
    arguments = {name: inputs.argument(context, pinned_run, name, done) for name in step.deps}
    arguments |= {name: {"kind": "value", "value": value} for name, value in params.items()}
    task = StepTask(
        f"{pinned_run.run_id}/{step.name}",
        pinned_run.tree_id,
        target="noria.pipeline.function_step:run",
        job={"call": target, "arguments": arguments, "seed": SEED},
        roots=pinned_run.roots,
        inputs=inputs.files,
        outs={OUTPUT: OUTPUT},
        env=step.env,
        resources=Resources(step.cpus, step.memory_bytes, step.timeout_s),
    )
    return facts, task


def _command(
    context: PipelineContext, pinned_run: PinnedRun, step: Step, done: Mapping[str, StepRecord]
) -> tuple[StepFacts, StepTask]:
    assert step.cmd is not None
    command = stopping(step.cmd)
    params = {name: find(pinned_run.project.params, name) for name in step.params}
    placed = files_of_earlier_steps(context, pinned_run, step, done)
    files = {
        path: digest for wanted in step.files for path, digest in _of_tree(context, pinned_run, step, wanted, placed).items()
    }
    code = _script_files(context, pinned_run, step)
    facts = StepFacts(
        code="",
        files=code,
        inputs={**_named_inputs(pinned_run, step, done), **files, **placed},
        params=_digests({**params, **{f"env.{name}": value for name, value in step.env.items()}}),
        command=command if step.directory == "." else f"cd {step.directory}; {command}",
        environment=environment.digest(pinned_run.environment),
    )
    inputs = TaskInputs()
    env: dict[str, Any] = {"NORIA_SEED": str(SEED)}  # a program has generators of its own; an item called `seed` comes first
    for name in step.deps:
        env[f"NORIA_INPUT_{_variable(name)}"] = _paths(inputs.argument(context, pinned_run, name, done))
    env |= {f"NORIA_PARAM_{_variable(name)}": json.dumps(value) for name, value in params.items()}
    env |= {f"NORIA_{_variable(name)}": _plain(value) for name, value in step.item.items()}
    task = StepTask(
        f"{pinned_run.run_id}/{step.name}",
        pinned_run.tree_id,
        command=command,
        roots=pinned_run.roots,
        directory=step.directory,
        inputs=inputs.files,
        placed=placed,
        outs={path: path for path in step.outs},
        env={**env, **step.env},
        resources=Resources(step.cpus, step.memory_bytes, step.timeout_s),
    )
    return facts, task


def files_of_earlier_steps(
    context: PipelineContext, pinned_run: PinnedRun, step: Step, done: Mapping[str, StepRecord]
) -> dict[str, str]:
    """Path -> digest of the files that earlier steps left where this command reads."""
    found: dict[str, str] = {}
    for need in step.needs:
        if need not in done or done[need].output is None or not pinned_run.project.steps[need].cmd:
            continue
        found |= {path: digest for path, digest in output(context, done[need]).files.items() if _read_by(step, path)}
    return found


def _read_by(step: Step, path: str) -> bool:
    return any(path == wanted or path.startswith(f"{wanted}/") for wanted in step.files)


def _of_tree(
    context: PipelineContext, pinned_run: PinnedRun, step: Step, wanted: str, placed: Mapping[str, str]
) -> dict[str, str]:
    """Digests of what is the project's own under a path that a command reads."""
    if wanted in placed:
        return {}
    if any(path.startswith(f"{wanted}/") for path in placed) and not (pinned_run.tree / wanted).is_dir():
        return {}
    outs = [out for other in pinned_run.project.steps.values() for out in other.outs]
    try:
        found = context.places.digests(pinned_run.tree, wanted)
    except StepError as error:
        hint = error.hint
        if error.message == "is not there" and (context.home / wanted).exists():
            hint = f"It is in your folder, but not in the commit. Commit it, or make it a dataset (data: {{...: {wanted}}})."
        raise StepError(f"its dependency {wanted} {error.message}", where=f"step {step.name}", hint=hint) from error
    return {path: digest for path, digest in found.items() if not any(path == o or path.startswith(f"{o}/") for o in outs)}


def _script_files(context: PipelineContext, pinned_run: PinnedRun, step: Step) -> dict[str, str]:
    """The project's files that the command's own words name, and the project modules that a Python script imports."""
    try:
        words = shlex.split(step.cmd or "", comments=True)
    except ValueError:
        words = (step.cmd or "").split()
    found: dict[str, str] = {}
    outs = {out for other in pinned_run.project.steps.values() for out in other.outs}
    for before, word in zip(["", *words], words, strict=False):
        path = PurePosixPath(step.directory, word).as_posix()
        if before == "-m":
            found |= source_code.imports_closure((pinned_run.tree / step.directory, *pinned_run.code_paths), word)
        elif _inside(path) and path not in outs and path not in step.files and (pinned_run.tree / path).is_file():
            if path.endswith(".py"):
                found |= source_code.script_closure(pinned_run.tree, path, pinned_run.code_paths)
            else:
                found |= context.places.digests(pinned_run.tree, path)
    return found


def _inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and len(path) < 1000


def _named_inputs(pinned_run: PinnedRun, step: Step, done: Mapping[str, StepRecord]) -> dict[str, str]:
    """Dataset or step -> digest, of what the step takes by name."""
    found: dict[str, str] = {}
    for dep in step.deps:
        for name in pinned_run.project.wide.get(dep, (dep,)):
            if name not in done:
                found[name] = pinned_run.pins.snapshots[name]
            elif done[name].state is not StepState.SKIPPED:
                found[name] = done[name].output or ""
    return found


def _digests(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: names.digest_bytes(msgspec.json.encode(value, order="sorted")) for name, value in params.items()}


def _call_params(pinned_run: PinnedRun, step: Step) -> dict[str, object]:
    """The parameters a function reads: its section of params.yaml first, then top-level names, as far as it asks for them."""
    section = pinned_run.project.params.get(step.name.partition("@")[0], {})
    own = section if isinstance(section, dict) else {}
    return {
        name: own.get(name, pinned_run.project.params.get(name))
        for name in sorted(step.params)
        if name in own or name in pinned_run.project.params
    }


def parameters_of(params: Mapping[str, Any], step: Step) -> set[str]:
    """The parameters that a step reads, by dotted name."""
    section = step.name.partition("@")[0]
    own = params.get(section)
    if step.call is None or not isinstance(own, dict):
        return set(step.params)
    return {f"{section}.{name}" if name in own else name for name in step.params}


def _paths(facts: Mapping[str, Any]) -> list[str]:
    if facts["kind"] == "wide":
        return [path for inner in facts["items"].values() for path in _paths(inner)]
    return list(facts.get("files") or [facts["path"]])


def _variable(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).upper()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def out_files(context: PipelineContext, pinned_run: PinnedRun, records: Mapping[str, StepRecord]) -> dict[str, str]:
    """Path -> digest of everything that the commands of a run leave."""
    found: dict[str, str] = {}
    for name, record in records.items():
        step = pinned_run.project.steps.get(name)
        if step is not None and step.outs and record.output is not None:
            found |= output(context, record).files
    return found
