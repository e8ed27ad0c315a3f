"""Search: which algorithm and hyperparameters do best on validation rows inside the training side. Each trial is a run.

Trials are asked and told in a fixed order: trial n is drawn, and judged for pruning, by the results of the trials up to n less
the window, however fast the others are. So the same seed makes the same search, at any pace, with any number of trials at a time
up to the window, and after any interruption.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from noria import config
from noria.config import Algorithm, Model, Search
from noria.config.gate import METRICS
from noria.config.search import DEFAULT as VALIDATED
from noria.config.search import TRAIN
from noria.delivery import champion
from noria.kernel import names
from noria.kernel.errors import CorruptBlobError, LeaseLostError, NoriaError, NotFoundError, StoppedError
from noria.kernel.verdict import Reason
from noria.pipeline import environment, judge_staleness, pin, source_code, steps
from noria.pipeline import judge_search as judge
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.executors.task import Resources, StepTask, cores
from noria.pipeline.judge_search import Trial, TrialState
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.model_facts import SEED, model_facts, train_params, with_train_params
from noria.pipeline.orders import TaskInputs, table_digests
from noria.pipeline.recording import StepFindings, gather
from noria.pipeline.run import Run, RunKind, StepRecord, StepState, flat
from noria.pipeline.steps import StepOrder, StepOutput
from noria.releases.release import Release
from noria.storage.context import silent

if TYPE_CHECKING:
    from noria.pipeline.search_study import Study, Suggestion

NAME = "search"
ROWS = f"{NAME}.rows"
BEST = "best"  # the tag of the trial that was chosen
WINDOW = 4  # trials that may be under way without knowing of each other; more only where more run at a time
POLL_S = 0.2  # between two looks at the lease
PATIENCE_S = 600.0  # for the step that writes the rows


def search(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord]) -> StepRecord:
    """The search's record: remembered when an equal one is, else made. Never raises for the project's own failures.

    Its result: ``algorithm``, ``train`` ("module:function"), ``params`` (all that the function gets), ``metric``, ``value``,
    ``trial`` (the best one's run), ``trials``, ``pruned`` and ``failed`` (how many), ``validation`` and ``sentence``.
    """
    order = as_order(line, sheet, done)
    found = steps.remembered(line, sheet, order)
    return found if found is not None else _make(line, sheet, done, order)


def chosen(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord]) -> dict[str, Any]:
    """What the search found, noted on the sheet: its result, as ``search`` tells it. Raises StepError when it finds nothing."""
    found = steps.output(line, steps.demand(search(line, sheet, done))).result
    sheet.found = {"algorithm": found["algorithm"], "params": dict(found["params"])}
    return found


def validate(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord]) -> dict[str, float]:
    """Metrics of the model with the parameters as they are set, each the mean over the folds that a search would use: rows inside
    the training side, never the holdout. Where the project searches, of the best trial. Raises StepError."""
    model = sheet.project.model
    assert model is not None, "who calls has looked"
    if model.search is not None:
        found = chosen(line, sheet, done)
        return {f"validation.{found['metric']}": found["value"]}
    sheet, only = _with_one(sheet, model.train)
    rows = steps.demand(steps.perform(line, sheet, _rows_order(line, sheet, done)))
    return _fitted(line, sheet, steps.output(line, rows), only, train_params(sheet), "validate")


def beside(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord]) -> dict[str, Any]:
    """What serves, on the rows that this run, or each trial of its search, is judged on; empty where nothing serves.

    Its own model has seen those rows in its training, and its score on them would flatter it. So its code, with its parameters,
    is fitted once more, on the same training rows of each fold, and scored on the same validation rows: ``release``, ``metrics``,
    and ``note``: why there are none.
    """
    release = champion.serving(line, sheet.project)
    if release is None:
        return {}
    try:
        metrics, note = _fitted_again(replace(line, progress=silent), replace(sheet, records=[]), done, release), ""
    except (LeaseLostError, StoppedError, CorruptBlobError):
        raise
    except NoriaError as error:
        metrics, note = {}, error.message.partition("\n")[0]
    return {"release": release.version, "metrics": metrics, "note": note}


def _fitted_again(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord], release: Release) -> dict[str, float]:
    """Metrics of a release's training on the validation folds of this run. Raises NoriaError where they cannot be had."""
    if release.imported or release.commit is None:
        raise NotFoundError("it was imported: how it was trained is not known here")
    ours = sheet.project.model
    assert ours is not None, "who calls has looked"
    tree = pin.tree_of(line, release.commit, None, sheet.project)
    project = config.load(tree)
    theirs, evidence = project.model, line.bundle(release.digest) / "evidence"
    if theirs is None or (theirs.label, theirs.task) != (ours.label, ours.task):
        raise NotFoundError(f"it predicts {theirs.label if theirs is not None else 'nothing'}, and this run {ours.label}")
    try:
        params = msgspec.json.decode((evidence / "params.json").read_bytes())
        inputs = [one["name"] for one in msgspec.json.decode((evidence / "training.json").read_bytes())["signature"]["inputs"]]
    except (OSError, msgspec.DecodeError, LookupError, TypeError) as error:
        raise NotFoundError("its record of parameters and inputs is not there any more") from error
    searched = theirs.search.algorithms.get(params.get("algorithm", "")) if theirs.search is not None else None
    asked = sheet if ours.search is not None else _with_one(sheet, ours.train)[0]
    rows = steps.output(line, steps.demand(steps.perform(line, asked, _rows_order(line, asked, done))))
    absent = [name for name in inputs if name not in rows.result["inputs"]]
    if absent:
        raise NotFoundError(f"it reads {', '.join(absent[:3])}, which the rows of this run do not have")
    kinds = {name: rows.result["inputs"][name] for name in inputs}
    rows = replace(rows, result={**rows.result, "inputs": kinds})
    theirs_too = replace(project, data=sheet.project.data, params=params)
    mine = replace(sheet, project=theirs_too, tree=tree, commit=release.commit, dirty=None, sealed=None, found={})
    mine, only = _with_one(mine, searched.train if searched is not None else theirs.train, folds=len(rows.result["folds"]))
    return _fitted(line, mine, rows, only, train_params(mine), "serving")


def _with_one(sheet: PinnedRun, train: str, folds: int | None = None) -> tuple[PinnedRun, Algorithm]:
    """The sheet with a search of one algorithm whose parameters are set, as the folds of a search take it."""
    model = sheet.project.model
    assert model is not None, "who calls has looked"
    only = Algorithm(TRAIN, train, {}, tuple(train_params(sheet)))
    asked = Search(VALIDATED[model.task], {only.name: only}, trials=1)
    asked = asked if folds is None else replace(asked, folds=folds)
    return replace(sheet, project=replace(sheet.project, model=replace(model, search=asked))), only


def _fitted(
    line: PipelineContext, sheet: PinnedRun, rows: StepOutput, only: Algorithm, given: Mapping[str, Any], name: str
) -> dict[str, float]:
    """Metrics of one algorithm, each the mean over the folds. Raises StepError."""
    one = _Search(line, sheet, rows, Path())
    folds = range(one.asked.folds)
    made = [steps.demand(steps.perform(line, sheet, one.fold(f"{name}.fold-{n}", n, only, given))) for n in folds]
    return mean_metrics([steps.output(line, record).result for record in made])


def mean_metrics(folds: list[dict[str, Any]]) -> dict[str, float]:
    """Each metric's mean over the folds that have it, and the mean seconds of a fit."""
    named = sorted({name for found in folds for name in found["metrics"]})
    metrics = {f"validation.{name}": fmean([f["metrics"][name] for f in folds if name in f["metrics"]]) for name in named}
    return metrics | ({"validation.fit_s": fmean([found["fit_s"] for found in folds])} if folds else {})


def as_order(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord]) -> StepOrder:
    """The search as a step: all that its result depends on. Its task is the first of those it consists of."""
    asked, _ = _asked(sheet)
    limits = {"trials": asked.trials, "timeout": asked.timeout_s or 0}
    facts = _facts(sheet, done)
    facts = replace(facts, params={**facts.params, **{f"search.{k}": _digest(v) for k, v in limits.items()}})
    return StepOrder(sheet.project.result_name(NAME), facts, _rows_order(line, sheet, done).task)


def _facts(sheet: PinnedRun, done: Mapping[str, StepRecord]) -> StepFacts:
    """What all trials depend on. How many there may be, and how long, is not among it: a longer search goes on with these."""
    asked, model = _asked(sheet)
    files = _code(sheet, model, [algorithm.train for algorithm in asked.algorithms.values()])
    told = {"metric": asked.metric, "folds": asked.folds, "space": msgspec.to_builtins(asked.algorithms)}
    params = {f"{NAME}.{k}": v for k, v in told.items()} | {f"train.{k}": v for k, v in train_params(sheet).items()}
    return StepFacts(
        code=_digest([_facts_of_rows(sheet, model), files, _window(asked), SEED]),
        files=files,
        inputs=_input(sheet, model, done),
        params={k: _digest(v) for k, v in params.items()},
        environment=environment.digest(sheet.environment),
        tables=table_digests(sheet, (model.rows,), done),
    )


def _make(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord], order: StepOrder) -> StepRecord:
    key = judge_staleness.key(order.facts)
    told: list[bool] = []

    def waiting() -> None:
        line.check_lease()
        if not told:
            told.append(True)
            line.progress(f"{NAME}: another run is making the same: waiting for it")

    # Of its own kind: the folds hold locks of steps meanwhile.
    with line.locks.held(NAME, f"{line.name}/{key}", waiting):
        found = steps.remembered(line, sheet, order) if told else None
        if found is not None:
            return found
        reason = steps.consider(line, order)[0].reason
        line.progress(f"{NAME}: {reason.text}")
        began = time.perf_counter()
        rows = steps.perform(line, sheet, _rows_order(line, sheet, done))
        if rows.state is StepState.FAILED:
            return rows
        before = line.ledger.steps.latest(line.name, order.name)
        having = steps.having_read(line, order, before[1].get("read", ()) if before else ())
        journal = _journal(line, sheet, judge_staleness.key(replace(_facts(sheet, done), read=having.read)))
        made = _Search(line, sheet, steps.output(line, rows), journal, beside(line, sheet, done)).run()
        record = made.record(StepRecord(order.name, StepState.RAN, reason, key, seconds=time.perf_counter() - began), order)
    sheet.records.append(record)
    return record


def _journal(line: PipelineContext, sheet: PinnedRun, key: str) -> Path:
    """Where the search is written down; one that must not take anything from before has its own."""
    folder = line.state / NAME if line.reuse else line.folder(sheet.run_id)
    return folder / f"{key[:32]}.journal"


class _Open(msgspec.Struct):
    """A trial under way, or waiting for its turn."""

    suggestion: Suggestion
    made: Future[_Made]


class _Made(msgspec.Struct, frozen=True):
    """A trial that ended: how, and what is kept of it."""

    trial: Trial
    run: Run
    series: dict[str, dict[str, list[tuple[float, float]]]]  # fold -> metric -> points


class _Search:
    """One search under way. The thread that made it asks and tells; others wait for the steps of trials."""

    def __init__(
        self, line: PipelineContext, sheet: PinnedRun, rows: StepOutput, journal: Path, serving: Mapping[str, Any] | None = None
    ) -> None:
        self.line, self.sheet, self.journal = line, sheet, journal
        self.asked, self.model = _asked(sheet)
        self.rows = rows
        self.serving = dict(serving or {})  # what serves, on the same rows
        self.higher_is_better = _higher_is_better(self.asked.metric)
        self.at_once = self.asked.parallel or cores()
        self.told: list[Trial] = []
        self.open: deque[_Open] = deque()
        self.late = False
        self.used: list[StepRecord] = []

    def run(self) -> _Search:
        from noria.pipeline.search_study import Study

        space = {name: algorithm.space for name, algorithm in self.asked.algorithms.items()}
        first = {name: train_params(self.sheet) for name in space}
        study = Study(self.journal, space, higher_is_better=self.higher_is_better, seed=SEED, first=first)
        if not self._adopt(study.told()):
            self.journal.unlink()
            study = Study(self.journal, space, higher_is_better=self.higher_is_better, seed=SEED, first=first)
        began = time.monotonic()
        pool = ThreadPoolExecutor(max_workers=self.at_once, thread_name_prefix="trial")
        try:
            for suggestion in study.under_way():
                self._begin(suggestion, pool)
            self._fill(study, pool)
            while self.open:
                wait([one.made for one in self.open], POLL_S, FIRST_COMPLETED)
                self.line.check_lease()
                self._look_at_clock(began)
                while self.open and self.open[0].made.done():
                    self._tell(study, self.open.popleft())
                    self._fill(study, pool)
        except BaseException:  # Ctrl-C too: what runs is ended, what is finished is kept
            for one in self.open:
                one.made.cancel()
            for handle in list(self.sheet.under_way.values()):
                handle.cancel()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return self

    def record(self, record: StepRecord, order: StepOrder) -> StepRecord:
        """The whole search's record; remembered when it has a result."""
        used = [record for record in self.used if record.state is not StepState.REUSED]
        record = replace(
            record,
            user_s=min(record.seconds, sum(one.user_s for one in used)),
            cpu_s=sum(one.cpu_s for one in used),
            peak_rss_mb=max((one.peak_rss_mb for one in used), default=0.0),
        )
        chosen = judge.best(self.told, higher_is_better=self.higher_is_better)
        if chosen is None:
            self.journal.unlink(missing_ok=True)  # whatever it was, the next run tries anew
            return replace(record, state=StepState.FAILED, reason=judge.why_none(self.told))
        self._tag(chosen)
        known = self.line.ledger.steps
        read = {path for one in self.used for path in known.facts(self.line.name, one.key).get("read", ())}
        facts = steps.having_read(self.line, order, read)
        manifest = msgspec.json.encode(StepOutput({}, self._result(chosen)), order="sorted")
        record = replace(record, key=judge_staleness.key(facts), output=self.line.blobs.put_bytes(manifest, lasting=False))
        with self.line.ledger.transaction():
            self.line.check_lease()
            self.line.ledger.steps.put(self.line.name, record, msgspec.to_builtins(facts))
        return record

    @property
    def wanted(self) -> int:
        """How many trials there are to be: no more than there are points, where nothing is drawn."""
        spaces = [algorithm.space.values() for algorithm in self.asked.algorithms.values()]
        drawn = any(not dimension.fixed for space in spaces for dimension in space)
        return self.asked.trials if drawn else min(self.asked.trials, len(spaces))

    def _fill(self, study: Study, pool: ThreadPoolExecutor) -> None:
        """Ask for trials until the window is full."""
        if self.late or judge.hopeless(self.told, len(self.asked.algorithms)):
            return
        while len(self.open) < _window(self.asked) and len(self.told) + len(self.open) < self.wanted:
            self._begin(study.ask(), pool)

    def _begin(self, suggestion: Suggestion, pool: ThreadPoolExecutor) -> None:
        known = [trial for trial in self.told if trial.number <= suggestion.number - _window(self.asked)]
        self.open.append(_Open(suggestion, pool.submit(self._trial, suggestion, known)))

    def _tell(self, study: Study, one: _Open) -> None:
        try:
            made = one.made.result()
        except CancelledError:  # it had not begun when the time was up
            return
        with self.line.ledger.transaction():
            self.line.check_lease()
            self.line.ledger.runs.put(made.run)
            for step, series in made.series.items():
                self.line.ledger.series.put(self.line.name, made.run.id, step, series)
        study.tell(made.trial)
        self.told.append(made.trial)
        self.used += made.run.steps
        self.line.progress(self._words(made.trial))

    def _look_at_clock(self, began: float) -> None:
        if self.late or self.asked.timeout_s is None or time.monotonic() - began < self.asked.timeout_s:
            return
        self.late = True
        for one in self.open:
            one.made.cancel()  # has no effect on those that run

    def _trial(self, suggestion: Suggestion, known: list[Trial]) -> _Made:
        """All folds of a trial, one after the other, or as many as it is worth."""
        began = time.time()
        sheet = replace(self.sheet, records=[])  # its steps are its own; what runs is known to all
        line = replace(self.line, progress=silent)
        algorithm = self.asked.algorithms[suggestion.algorithm]
        params = {**{k: v for k, v in train_params(sheet).items() if k in algorithm.takes}, **suggestion.params}
        folds: list[dict[str, Any]] = []
        state, reason = TrialState.DONE, ""
        for fold in range(self.asked.folds):
            record = steps.perform(
                line, sheet, self.fold(f"{NAME}.trial-{suggestion.number}.fold-{fold}", fold, algorithm, params)
            )
            if record.state is StepState.FAILED:
                state, reason = TrialState.FAILED, f"fold {fold + 1}: {record.reason.text}"
                break
            folds.append(steps.output(line, record).result)
            worse = self._prune(folds, known) if fold + 1 < self.asked.folds else None
            if worse is not None:
                state, reason = TrialState.PRUNED, worse.text
                break
        means = judge.running_means([found["metrics"][self.asked.metric] for found in folds])
        trial = Trial(suggestion.number, algorithm.name, suggestion.params, state, means, reason)
        sheet.records[:] = [replace(record, name=f"fold-{fold}") for fold, record in enumerate(sheet.records)]
        said = gather(line, sheet)
        return _Made(trial, self._run(sheet, trial, params, folds, said, began), said.series)

    def _prune(self, folds: list[dict[str, Any]], known: list[Trial]) -> Reason | None:
        means = judge.running_means([found["metrics"][self.asked.metric] for found in folds])
        return judge.prune(means, known, self.asked.metric, higher_is_better=self.higher_is_better)

    def fold(self, name: str, fold: int, algorithm: Algorithm, params: Mapping[str, Any]) -> StepOrder:
        """The step that fits on the training rows of a fold and measures on its validation rows."""
        sheet, model = self.sheet, self.model
        facts_of_model = _facts_of_rows(sheet, model)
        files = _code(sheet, model, [algorithm.train])
        digest = self.rows.files["rows.arrow"]
        facts = StepFacts(
            code=_digest([facts_of_model, algorithm.train, files, SEED]),
            files=files,
            inputs={ROWS: digest},
            params={**{k: _digest(v) for k, v in params.items()}, f"{NAME}.fold": _digest([fold, self.rows.result["rolling"]])},
            environment=environment.digest(sheet.environment),
        )
        inputs = TaskInputs()
        job = {
            "rows": inputs.add(digest, "rows.arrow"),
            "inputs": self.rows.result["inputs"],
            "rolling": self.rows.result["rolling"],
            "fold": fold,
            "model": facts_of_model,
            "train": algorithm.train,
            "params": dict(params),
            "seed": SEED,
            "metrics": list(METRICS[model.task]),
            "metric": self.asked.metric,
        }
        task = StepTask(
            f"{sheet.run_id}/{name}",
            sheet.tree_id,
            target="noria.models.trial:run",
            job=job,
            roots=sheet.roots,
            inputs=inputs.files,
            resources=Resources(self._cpus(), model.memory_bytes, model.timeout_s),
        )
        return StepOrder(name, facts, task)

    def _cpus(self) -> int | None:
        """Trials that run side by side share the cores: each with threads on all of them would be slower by far."""
        return None if self.at_once == 1 else max(1, cores() // self.at_once)

    def _run(
        self,
        sheet: PinnedRun,
        trial: Trial,
        params: Mapping[str, Any],
        folds: list[dict[str, Any]],
        said: StepFindings,
        began: float,
    ) -> Run:
        assert sheet.pins is not None, "pins are fixed before steps run"
        return Run(
            id=self._run_id(trial.number),
            project=self.line.name,
            turn_id=None,
            pins=sheet.pins,
            started_at=began,
            ended_at=time.time(),
            outcome=str(trial.state),
            reason=trial.reason or f"{len(folds)} folds ({self.rows.result['sentence']})",
            steps=tuple(sheet.records),
            metrics={**said.metrics, **mean_metrics(folds)},
            kind=RunKind.TRIAL,
            parent=sheet.run_id,
            params={"algorithm": trial.algorithm, **flat(with_train_params(sheet, params))},
            tags=(NAME, *(tag for tag in said.tags if tag not in (NAME, BEST))),
            note="\n".join(said.notes),
            artifacts=said.artifacts,
            serving=self.serving,
        )

    def _run_id(self, number: int) -> str:
        """The same after an interruption: a trial is one run."""
        of = self.journal.stem[:12] if self.line.reuse else self.sheet.run_id
        return f"trial-{of}-{number + 1:04d}"

    def _adopt(self, told: list[Trial]) -> bool:
        """Trials that an interrupted search, or a shorter one, has made are this run's from now on; False when they are gone."""
        try:
            runs = [self.line.ledger.runs.get(self._run_id(trial.number)) for trial in told]
        except NotFoundError:
            return False
        with self.line.ledger.transaction():
            for run in runs:
                self.line.ledger.runs.put(replace(run, parent=self.sheet.run_id, tags=tuple(t for t in run.tags if t != BEST)))
        self.told = told
        return True

    def _tag(self, chosen: Trial) -> None:
        self.line.ledger.runs.tag(self._run_id(chosen.number), add=[BEST])

    def _result(self, chosen: Trial) -> dict[str, Any]:
        algorithm = self.asked.algorithms[chosen.algorithm]
        below = {k: v for k, v in train_params(self.sheet).items() if k in algorithm.takes}
        several = len(self.asked.algorithms) > 1
        return {
            "algorithm": chosen.algorithm,
            "train": algorithm.train,
            "params": {**below, **chosen.params},
            "metric": self.asked.metric,
            "value": chosen.value,
            "trial": self._run_id(chosen.number),
            "trials": len(self.told),
            "pruned": sum(trial.state is TrialState.PRUNED for trial in self.told),
            "failed": sum(trial.state is TrialState.FAILED for trial in self.told),
            "validation": self.rows.result["sentence"],
            "sentence": judge.sentence(self.told, chosen, self.wanted, self.asked.metric, several),
        }

    def _words(self, trial: Trial) -> str:
        which = f"{NAME}: trial {trial.number + 1} of {self.wanted}"
        if len(self.asked.algorithms) > 1:
            which += f", {trial.algorithm}"
        found = judge.best(self.told, higher_is_better=self.higher_is_better)
        known = f" (best {found.value:.4g})" if found is not None else ""
        if trial.state is TrialState.DONE:
            return f"{which}, {self.asked.metric} {trial.value:.4g}{known}"
        said = trial.reason.partition("\n")[0]
        return f"{which}, {said if trial.state is TrialState.PRUNED else f'failed: {said}'}{known}"


def _rows_order(line: PipelineContext, sheet: PinnedRun, done: Mapping[str, StepRecord]) -> StepOrder:
    """The step that writes the training side once, for all trials to map into memory."""
    asked, model = _asked(sheet)
    inputs = TaskInputs()
    job = {"rows": inputs.argument(line, sheet, model.rows, done), "model": _facts_of_rows(sheet, model), "folds": asked.folds}
    facts = StepFacts(
        code=_digest([_facts_of_rows(sheet, model), "trial:rows"]),
        inputs=_input(sheet, model, done),
        params={"search.folds": _digest(asked.folds)},
        environment=environment.digest(sheet.environment),
        tables=table_digests(sheet, (model.rows,), done),
    )
    task = StepTask(
        f"{sheet.run_id}/{ROWS}",
        sheet.tree_id,
        target="noria.models.trial:rows",
        job=job,
        roots=sheet.roots,
        inputs=inputs.files,
        outs={"rows.arrow": "rows.arrow"},
        resources=Resources(None, model.memory_bytes, PATIENCE_S),
    )
    return StepOrder(ROWS, facts, task)


def _asked(sheet: PinnedRun) -> tuple[Search, Model]:
    model = sheet.project.model
    assert model is not None
    assert model.search is not None, "who calls has looked"
    return model.search, model


def _facts_of_rows(sheet: PinnedRun, model: Model) -> dict[str, Any]:
    """As ``model_facts``, without what trials differ in."""
    return {name: value for name, value in model_facts(sheet, model).items() if name not in ("train", "slices")}


def _input(sheet: PinnedRun, model: Model, done: Mapping[str, StepRecord]) -> dict[str, str]:
    assert sheet.pins is not None, "pins are fixed before steps run"
    return {model.rows: done[model.rows].output or "" if model.rows in done else sheet.pins.snapshots[model.rows]}


def _code(sheet: PinnedRun, model: Model, targets: list[str]) -> dict[str, str]:
    """Digests of the modules that the functions and what they import are written in."""
    files: dict[str, str] = {}
    for module in {target.partition(":")[0] for target in [*targets, *filter(None, [model.features])]}:
        files |= source_code.imports_closure(sheet.code_paths, module)
    return files


def _window(asked: Search) -> int:
    return max(WINDOW, asked.parallel or cores())


def _higher_is_better(metric: str) -> bool:
    from noria.stats.metrics import METRICS as KNOWN  # NumPy: only a search that runs needs it

    return KNOWN[metric].higher_is_better


def _digest(value: Any) -> str:
    return names.digest_bytes(msgspec.json.encode(value, order="sorted"))
