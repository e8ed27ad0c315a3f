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
from noria.config.search import TRAIN
from noria.kernel import names
from noria.kernel.errors import CorruptBlobError, LeaseLostError, NoriaError, NotFoundError, StoppedError
from noria.kernel.verdict import Reason
from noria.pipeline import environment, judge_staleness, named_arguments, pin, source_code, steps
from noria.pipeline import judge_search as judge
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.executors.task import cores
from noria.pipeline.judge_search import Trial, TrialState
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.model_facts import SEED, model_facts, train_params, with_train_params
from noria.pipeline.orders import TaskInputs, table_digests
from noria.pipeline.recording import StepFindings, gather
from noria.pipeline.run import Run, RunKind, StepRecord, StepState, flat
from noria.pipeline.run_store import RunStore, StepStore
from noria.pipeline.series_store import SeriesStore
from noria.pipeline.served_training import ServedTraining
from noria.pipeline.steps import StepOrder, StepOutput
from noria.storage.context import silent

if TYPE_CHECKING:
    from noria.pipeline.search_study import Study, Suggestion

NAME = "search"
ROWS = f"{NAME}.rows"
BEST = "best"  # the tag of the trial that was chosen
WINDOW = 4  # trials that may be under way without knowing of each other; more only where more run at a time
POLL_S = 0.2  # between two looks at the lease
PATIENCE_S = 600.0  # for the step that writes the rows


def search(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> StepRecord:
    """The search's record: remembered when an equal one is, else made. Never raises for the project's own failures.

    Its result: ``algorithm``, ``train`` ("module:function"), ``params`` (all that the function gets), ``metric``, ``value``,
    ``trial`` (the best one's run), ``trials``, ``pruned`` and ``failed`` (how many), ``validation`` and ``sentence``.
    """
    order = as_order(context, pinned_run, done)
    found = steps.reuse_step(context, pinned_run, order)
    return found if found is not None else _make(context, pinned_run, done, order)


def find_best(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> dict[str, Any]:
    """What the search found, noted on the run: its result, as ``search`` tells it. Raises StepError when it finds nothing."""
    found = steps.output(context, steps.demand(search(context, pinned_run, done))).result
    pinned_run.found = {"algorithm": found["algorithm"], "params": dict(found["params"])}
    return found


def validate(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> dict[str, float]:
    """Metrics of the model with the parameters as they are set, each the mean over the folds that a search would use: rows inside
    the training side, never the holdout. Where the project searches, of the best trial. Raises StepError."""
    model = pinned_run.project.model
    assert model is not None, "who calls has looked"
    if model.search is not None:
        found = find_best(context, pinned_run, done)
        return {f"validation.{found['metric']}": found["value"]}
    pinned_run, only = _with_one(pinned_run, model.train)
    rows = steps.demand(steps.perform(context, pinned_run, _rows_order(context, pinned_run, done)))
    return _fit_folds(context, pinned_run, steps.output(context, rows), only, train_params(pinned_run), "validate", done)


def beside(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> dict[str, Any]:
    """What serves, on the rows that this run, or each trial of its search, is judged on; empty where nothing serves.

    Its own model has seen those rows in its training, and its score on them would flatter it. So its code, with its parameters,
    is fitted once more, on the same training rows of each fold, and scored on the same validation rows: ``release``, ``metrics``,
    and ``note``: why there are none.
    """
    served = context.served(context, pinned_run.project)
    if served is None:
        return {}
    try:
        metrics, note = _refit_served(replace(context, progress=silent), replace(pinned_run, records=[]), done, served), ""
    except (LeaseLostError, StoppedError, CorruptBlobError):
        raise
    except NoriaError as error:
        metrics, note = {}, error.message.partition("\n")[0]
    return {"release": served.release, "metrics": metrics, "note": note}


def _refit_served(
    context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord], served: ServedTraining
) -> dict[str, float]:
    """Metrics of a release's training on the validation folds of this run. Raises NoriaError where they cannot be had."""
    if served.commit is None:
        raise NotFoundError("it was imported, so its training is unknown here")
    ours = pinned_run.project.model
    assert ours is not None, "who calls has looked"
    tree = pin.tree_of(context, served.commit, None, pinned_run.project)
    project = config.load(tree)
    theirs, params = project.model, served.params
    if theirs is None or (theirs.label, theirs.task) != (ours.label, ours.task):
        raise NotFoundError(f"it predicts {theirs.label if theirs is not None else 'nothing'}, and this run {ours.label}")
    if served.note:
        raise NotFoundError(served.note)
    searched = theirs.search.algorithms.get(params.get("algorithm", "")) if theirs.search is not None else None
    asked = pinned_run if ours.search is not None else _with_one(pinned_run, ours.train)[0]
    rows = steps.output(context, steps.demand(steps.perform(context, asked, _rows_order(context, asked, done))))
    absent = [name for name in served.inputs if name not in rows.result["inputs"]]
    if absent:
        raise NotFoundError(f"it reads {', '.join(absent[:3])}, which the rows of this run lack")
    kinds = {name: rows.result["inputs"][name] for name in served.inputs}
    rows = replace(rows, result={**rows.result, "inputs": kinds})
    theirs_too = replace(project, data=pinned_run.project.data, params=params)
    mine = replace(pinned_run, project=theirs_too, tree=tree, commit=served.commit, dirty=None, sealed=None, found={})
    mine, only = _with_one(mine, searched.train if searched is not None else theirs.train, folds=len(rows.result["folds"]))
    return _fit_folds(context, mine, rows, only, train_params(mine), "serving", done)


def _with_one(pinned_run: PinnedRun, train: str, folds: int | None = None) -> tuple[PinnedRun, Algorithm]:
    """The run with a search of one algorithm whose parameters are set, as the folds of a search take it."""
    model = pinned_run.project.model
    assert model is not None, "who calls has looked"
    only = Algorithm(TRAIN, train, {}, tuple(train_params(pinned_run)))
    asked = Search(model.task.definition.loss, {only.name: only}, trials=1)
    asked = asked if folds is None else replace(asked, folds=folds)
    return replace(pinned_run, project=replace(pinned_run.project, model=replace(model, search=asked))), only


def _fit_folds(
    context: PipelineContext,
    pinned_run: PinnedRun,
    rows: StepOutput,
    only: Algorithm,
    given: Mapping[str, Any],
    name: str,
    done: Mapping[str, StepRecord],
) -> dict[str, float]:
    """Metrics of one algorithm, each the mean over the folds. Raises StepError."""
    one = _Search(context, pinned_run, rows, Path(), done)
    folds = range(one.asked.folds)
    made = [steps.demand(steps.perform(context, pinned_run, one.fold(f"{name}.fold-{n}", n, only, given))) for n in folds]
    return mean_metrics([steps.output(context, record).result for record in made])


def mean_metrics(folds: list[dict[str, Any]]) -> dict[str, float]:
    """Each metric's mean over the folds that have it, and the mean seconds of a fit."""
    named = sorted({name for found in folds for name in found["metrics"]})
    metrics = {f"validation.{name}": fmean([f["metrics"][name] for f in folds if name in f["metrics"]]) for name in named}
    return metrics | ({"validation.fit_s": fmean([found["fit_s"] for found in folds])} if folds else {})


def as_order(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> StepOrder:
    """The search as a step: all that its result depends on. Its task is the first of those it consists of."""
    asked, _ = _search_and_model(pinned_run)
    limits = {"trials": asked.trials, "timeout": asked.timeout_s or 0}
    facts = _facts(pinned_run, done)
    facts = replace(facts, params={**facts.params, **{f"search.{k}": _digest(v) for k, v in limits.items()}})
    return StepOrder(pinned_run.project.result_name(NAME), facts, _rows_order(context, pinned_run, done).task)


def _facts(pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> StepFacts:
    """What all trials depend on. How many there may be, and how long, is not among it: a longer search goes on with these."""
    asked, model = _search_and_model(pinned_run)
    files = _code(pinned_run, model, [algorithm.train for algorithm in asked.algorithms.values()])
    told = {"metric": asked.metric, "folds": asked.folds, "space": msgspec.to_builtins(asked.algorithms)}
    params = {f"{NAME}.{k}": v for k, v in told.items()} | {f"train.{k}": v for k, v in train_params(pinned_run).items()}
    return StepFacts(
        code=_digest([_facts_of_rows(pinned_run, model), files, _window(asked), SEED]),
        files=files,
        inputs=_input(pinned_run, model, done) | named_arguments.further_inputs(pinned_run, model, done),
        params={k: _digest(v) for k, v in params.items()} | named_arguments.feature_digests(pinned_run, model),
        environment=environment.digest(pinned_run.environment),
        tables=table_digests(pinned_run, (model.rows, *model.also), done),
    )


def _make(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord], order: StepOrder) -> StepRecord:
    key = judge_staleness.key(order.facts)
    told: list[bool] = []

    def waiting() -> None:
        context.check_lease()
        if not told:
            told.append(True)
            context.progress(f"{NAME}: another run is making the same result: waiting for it")

    # Of its own kind: the folds hold locks of steps meanwhile.
    with context.locks.hold(NAME, f"{context.name}/{key}", waiting):
        found = steps.reuse_step(context, pinned_run, order) if told else None
        if found is not None:
            return found
        reason = steps.consider(context, order)[0].reason
        context.progress(f"{NAME}: {reason.text}")
        began = time.perf_counter()
        rows = steps.perform(context, pinned_run, _rows_order(context, pinned_run, done))
        if rows.state is StepState.FAILED:
            return rows
        before = StepStore.of(context).latest(order.name)
        having = steps.having_read(context, order, before[1].get("read", ()) if before else ())
        journal = _journal(context, pinned_run, judge_staleness.key(replace(_facts(pinned_run, done), read=having.read)))
        made = _Search(context, pinned_run, steps.output(context, rows), journal, done, beside(context, pinned_run, done)).run()
        record = made.record(StepRecord(order.name, StepState.RAN, reason, key, seconds=time.perf_counter() - began), order)
    pinned_run.records.append(record)
    return record


def _journal(context: PipelineContext, pinned_run: PinnedRun, key: str) -> Path:
    """Where the search is written down; one that must not take anything from before has its own."""
    folder = context.state / NAME if context.reuse else context.folder(pinned_run.run_id)
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
        self,
        context: PipelineContext,
        pinned_run: PinnedRun,
        rows: StepOutput,
        journal: Path,
        done: Mapping[str, StepRecord],
        serving: Mapping[str, Any] | None = None,
    ) -> None:
        self.context, self.pinned_run, self.journal = context, pinned_run, journal
        self.asked, self.model = _search_and_model(pinned_run)
        self.rows, self.done = rows, done
        self.serving = dict(serving or {})  # what serves, on the same rows
        self.higher_is_better = self.model.task.definition.metrics[self.asked.metric].greater_is_better
        self.at_once = self.asked.parallel or cores()
        self.told: list[Trial] = []
        self.open: deque[_Open] = deque()
        self.late = False
        self.used: list[StepRecord] = []

    def run(self) -> _Search:
        from noria.pipeline.search_study import Study  # OpenSSL and, later, Optuna: only a search that runs needs them

        space = {name: algorithm.space for name, algorithm in self.asked.algorithms.items()}
        first = {name: train_params(self.pinned_run) for name in space}
        study = Study(self.journal, space, higher_is_better=self.higher_is_better, seed=SEED, first=first)
        if not self._adopt(study.known_trials()):
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
                self.context.check_lease()
                self._look_at_clock(began)
                while self.open and self.open[0].made.done():
                    self._tell(study, self.open.popleft())
                    self._fill(study, pool)
        except BaseException:  # Ctrl-C too: what runs is ended, what is finished is kept
            for one in self.open:
                one.made.cancel()
            for handle in list(self.pinned_run.under_way.values()):
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
        known = StepStore.of(self.context)
        read = {path for one in self.used for path in known.facts(one.key).get("read", ())}
        facts = steps.having_read(self.context, order, read)
        manifest = msgspec.json.encode(StepOutput({}, self._result(chosen)), order="sorted")
        record = replace(record, key=judge_staleness.key(facts), output=self.context.blobs.put_bytes(manifest, lasting=False))
        with self.context.ledger.transaction():
            self.context.check_lease()
            StepStore.of(self.context).put(record, msgspec.to_builtins(facts))
        return record

    @property
    def trial_count(self) -> int:
        """How many trials there are to be: no more than there are points, where nothing is drawn."""
        spaces = [algorithm.space.values() for algorithm in self.asked.algorithms.values()]
        drawn = any(not dimension.fixed for space in spaces for dimension in space)
        return self.asked.trials if drawn else min(self.asked.trials, len(spaces))

    def _fill(self, study: Study, pool: ThreadPoolExecutor) -> None:
        """Ask for trials until the window is full."""
        if self.late or judge.hopeless(self.told, len(self.asked.algorithms)):
            return
        while len(self.open) < _window(self.asked) and len(self.told) + len(self.open) < self.trial_count:
            self._begin(study.ask(), pool)

    def _begin(self, suggestion: Suggestion, pool: ThreadPoolExecutor) -> None:
        known = [trial for trial in self.told if trial.number <= suggestion.number - _window(self.asked)]
        self.open.append(_Open(suggestion, pool.submit(self._trial, suggestion, known)))

    def _tell(self, study: Study, one: _Open) -> None:
        try:
            made = one.made.result()
        except CancelledError:  # it had not begun when the time was up
            return
        with self.context.ledger.transaction():
            self.context.check_lease()
            RunStore.of(self.context).put(made.run)
            for step, series in made.series.items():
                SeriesStore.of(self.context).put(made.run.id, step, series)
        study.tell(made.trial)
        self.told.append(made.trial)
        self.used += made.run.steps
        self.context.progress(self._words(made.trial))

    def _look_at_clock(self, began: float) -> None:
        if self.late or self.asked.timeout_s is None or time.monotonic() - began < self.asked.timeout_s:
            return
        self.late = True
        for one in self.open:
            one.made.cancel()  # has no effect on those that run

    def _trial(self, suggestion: Suggestion, known: list[Trial]) -> _Made:
        """All folds of a trial, one after the other, or as many as it is worth."""
        began = time.time()
        pinned_run = replace(self.pinned_run, records=[])  # its steps are its own; what runs is known to all
        line = replace(self.context, progress=silent)
        algorithm = self.asked.algorithms[suggestion.algorithm]
        params = {**{k: v for k, v in train_params(pinned_run).items() if k in algorithm.takes}, **suggestion.params}
        folds: list[dict[str, Any]] = []
        state, reason = TrialState.DONE, ""
        for fold in range(self.asked.folds):
            record = steps.perform(
                line, pinned_run, self.fold(f"{NAME}.trial-{suggestion.number}.fold-{fold}", fold, algorithm, params)
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
        pinned_run.records[:] = [replace(record, name=f"fold-{fold}") for fold, record in enumerate(pinned_run.records)]
        said = gather(line, pinned_run)
        return _Made(trial, self._run(pinned_run, trial, params, folds, said, began), said.series)

    def _prune(self, folds: list[dict[str, Any]], known: list[Trial]) -> Reason | None:
        means = judge.running_means([found["metrics"][self.asked.metric] for found in folds])
        return judge.prune(means, known, self.asked.metric, higher_is_better=self.higher_is_better)

    def fold(self, name: str, fold: int, algorithm: Algorithm, params: Mapping[str, Any]) -> StepOrder:
        """The step that fits on the training rows of a fold and measures on its validation rows."""
        pinned_run, model = self.pinned_run, self.model
        facts_of_model = _facts_of_rows(pinned_run, model)
        files = _code(pinned_run, model, [algorithm.train])
        digest = self.rows.files["rows.arrow"]
        facts = StepFacts(
            code=_digest([facts_of_model, algorithm.train, files, SEED]),
            files=files,
            inputs={ROWS: digest, **named_arguments.further_inputs(pinned_run, model, self.done)},
            params=named_arguments.feature_digests(pinned_run, model)
            | {**{k: _digest(v) for k, v in params.items()}, f"{NAME}.fold": _digest([fold, self.rows.result["rolling"]])},
            environment=environment.digest(pinned_run.environment),
            tables=table_digests(pinned_run, model.also, self.done),
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
            "metrics": list(model.task.definition.metrics),
            "metric": self.asked.metric,
            **named_arguments.job_part(self.context, pinned_run, model, self.done, inputs),
        }
        return steps.model_order(pinned_run, facts, name, "noria.models.trial:run", job, inputs.files, {}, cpus=self._cpus())

    def _cpus(self) -> int | None:
        """Trials that run side by side share the cores: each with threads on all of them would be slower by far."""
        return None if self.at_once == 1 else max(1, cores() // self.at_once)

    def _run(
        self,
        pinned_run: PinnedRun,
        trial: Trial,
        params: Mapping[str, Any],
        folds: list[dict[str, Any]],
        said: StepFindings,
        began: float,
    ) -> Run:
        return Run(
            id=self._run_id(trial.number),
            project=self.context.name,
            turn_id=None,
            pins=pinned_run.pins,
            started_at=began,
            ended_at=time.time(),
            outcome=str(trial.state),
            reason=trial.reason or f"{len(folds)} folds ({self.rows.result['sentence']})",
            steps=tuple(pinned_run.records),
            metrics={**said.metrics, **mean_metrics(folds)},
            kind=RunKind.TRIAL,
            parent=pinned_run.run_id,
            params={"algorithm": trial.algorithm, **flat(with_train_params(pinned_run, params))},
            tags=(NAME, *(tag for tag in said.tags if tag not in (NAME, BEST))),
            note="\n".join(said.notes),
            artifacts=said.artifacts,
            serving=self.serving,
        )

    def _run_id(self, number: int) -> str:
        """The same after an interruption: a trial is one run."""
        of = self.journal.stem[:12] if self.context.reuse else self.pinned_run.run_id
        return f"trial-{of}-{number + 1:04d}"

    def _adopt(self, told: list[Trial]) -> bool:
        """Trials that an interrupted search, or a shorter one, has made are this run's from now on; False when they are gone."""
        try:
            runs = [RunStore.of(self.context).get(self._run_id(trial.number)) for trial in told]
        except NotFoundError:
            return False
        with self.context.ledger.transaction():
            for run in runs:
                RunStore.of(self.context).put(
                    replace(run, parent=self.pinned_run.run_id, tags=tuple(t for t in run.tags if t != BEST))
                )
        self.told = told
        return True

    def _tag(self, chosen: Trial) -> None:
        RunStore.of(self.context).tag(self._run_id(chosen.number), add=[BEST])

    def _result(self, chosen: Trial) -> dict[str, Any]:
        algorithm = self.asked.algorithms[chosen.algorithm]
        below = {k: v for k, v in train_params(self.pinned_run).items() if k in algorithm.takes}
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
            "sentence": judge.sentence(self.told, chosen, self.trial_count, self.asked.metric, several),
        }

    def _words(self, trial: Trial) -> str:
        which = f"{NAME}: trial {trial.number + 1} of {self.trial_count}"
        if len(self.asked.algorithms) > 1:
            which += f", {trial.algorithm}"
        found = judge.best(self.told, higher_is_better=self.higher_is_better)
        known = f" (best {found.value:.4g})" if found is not None else ""
        if trial.state is TrialState.DONE:
            return f"{which}, {self.asked.metric} {trial.value:.4g}{known}"
        said = trial.reason.partition("\n")[0]
        return f"{which}, {said if trial.state is TrialState.PRUNED else f'failed: {said}'}{known}"


def _rows_order(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> StepOrder:
    """The step that writes the training side once, for all trials to map into memory."""
    asked, model = _search_and_model(pinned_run)
    inputs = TaskInputs()
    job = {
        "rows": inputs.argument(context, pinned_run, model.rows, done),
        "model": _facts_of_rows(pinned_run, model),
        "folds": asked.folds,
    }
    facts = StepFacts(
        code=_digest([_facts_of_rows(pinned_run, model), "trial:rows"]),
        inputs=_input(pinned_run, model, done),
        params={"search.folds": _digest(asked.folds)},
        environment=environment.digest(pinned_run.environment),
        tables=table_digests(pinned_run, (model.rows,), done),
    )
    outs = {"rows.arrow": "rows.arrow"}
    return steps.model_order(pinned_run, facts, ROWS, "noria.models.trial:rows", job, inputs.files, outs, timeout_s=PATIENCE_S)


def _search_and_model(pinned_run: PinnedRun) -> tuple[Search, Model]:
    model = pinned_run.project.model
    assert model is not None
    assert model.search is not None, "who calls has looked"
    return model.search, model


def _facts_of_rows(pinned_run: PinnedRun, model: Model) -> dict[str, Any]:
    """As ``model_facts``, without what trials differ in."""
    return {name: value for name, value in model_facts(pinned_run, model).items() if name not in ("train", "slices")}


def _input(pinned_run: PinnedRun, model: Model, done: Mapping[str, StepRecord]) -> dict[str, str]:
    return {model.rows: done[model.rows].output or "" if model.rows in done else pinned_run.pins.snapshots[model.rows]}


def _code(pinned_run: PinnedRun, model: Model, targets: list[str]) -> dict[str, str]:
    """Digests of the modules that the functions and what they import are written in."""
    files: dict[str, str] = {}
    for module in {target.partition(":")[0] for target in [*targets, *filter(None, [model.features])]}:
        files |= source_code.imports_closure(pinned_run.code_paths, module)
    return files


def _window(asked: Search) -> int:
    return max(WINDOW, asked.parallel or cores())


def _digest(value: Any) -> str:
    return names.digest_bytes(msgspec.json.encode(value, order="sorted"))
