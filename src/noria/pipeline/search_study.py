"""Optuna (the extra ``search``): which point of the space to try next. What was asked and told is in a journal file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from noria.config import Dimension
from noria.kernel.errors import StepError, StoreError
from noria.pipeline.judge_search import Trial, TrialState

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ALGORITHM = "algorithm"  # Optuna's name of the choice among algorithms
REASON = "reason"
RANDOM = 10  # trials at random before the sampler learns from them
DIGITS = 6  # significant ones of a number that was drawn

Space = Mapping[str, Dimension]


class Suggestion(msgspec.Struct, frozen=True):
    """A trial to make. ``params``: of its algorithm, by name."""

    number: int
    algorithm: str
    params: dict[str, Any]


class Study:
    """One search. Not thread-safe, and only one process at a time may have it open.

    ``spaces``: algorithm -> the space of its hyperparameters. ``first``: points that are tried before any is drawn, by
    algorithm; what they leave out is drawn. Trial ``n`` is drawn from the seed, ``n`` and what was told by then, so a search
    that is opened again goes on as if it had never stopped.
    """

    def __init__(
        self,
        path: Path,
        spaces: Mapping[str, Space],
        *,
        higher_is_better: bool,
        seed: int,
        first: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._spaces, self._seed = spaces, seed
        with _optuna() as optuna:
            path.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_end(path)
            self._study = optuna.create_study(
                storage=_storage(optuna, path),
                study_name="search",
                direction="maximize" if higher_is_better else "minimize",
                load_if_exists=True,
            )
            for point in [self._keyed(name, params) for name, params in (first or {}).items()]:
                if point:
                    self._study.enqueue_trial(point, skip_if_exists=True)

    def known_trials(self) -> list[Trial]:
        """The trials that ended, in their order."""
        states = {"COMPLETE": TrialState.DONE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAILED}
        return [self._ended(trial, states[trial.state.name]) for trial in self._trials() if trial.state.name in states]

    def under_way(self) -> list[Suggestion]:
        """The trials that were asked for and not told yet, in their order."""
        running = [trial for trial in self._trials() if trial.state.name == "RUNNING"]
        return [self._resume(trial) for trial in running]

    def ask(self) -> Suggestion:
        """The next trial."""
        asked = sum(trial.state.name != "WAITING" for trial in self._trials())
        with _optuna():
            self._draw_for(asked)
            return self._suggest(self._study.ask())

    def tell(self, ended: Trial) -> None:
        """How a trial ended."""
        with _optuna() as optuna:
            known = self._trials()[ended.number]
            trial = optuna.trial.Trial(self._study, known._trial_id)
            for fold, mean in enumerate(ended.means):
                if fold not in known.intermediate_values:  # a kill may have come in the middle of the telling
                    trial.report(mean, fold)
            trial.set_user_attr(REASON, ended.reason)
            state = {TrialState.DONE: "COMPLETE", TrialState.PRUNED: "PRUNED", TrialState.FAILED: "FAIL"}[ended.state]
            value = ended.value if ended.state is TrialState.DONE else None
            self._study.tell(ended.number, value, state=optuna.trial.TrialState[state])

    def _trials(self) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return found

    def _draw_for(self, number: int, key: str = "") -> None:
        """A sampler of this trial's, and this parameter's, own: what it draws does not depend on what this process drew before,
        so that a trial whose asking was cut off in the middle is asked for again as it was."""
        with _optuna() as optuna:
            seed = int.from_bytes(blake2b(f"{self._seed}/{number}/{key}".encode(), digest_size=4).digest())
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM, constant_liar=True)

    def _resume(self, known: FrozenTrial) -> Suggestion:
        """A trial that was asked for; what a kill in the middle of the asking left open is drawn now."""
        with _optuna() as optuna:
            self._draw_for(known.number)
            return self._suggest(optuna.trial.Trial(self._study, known._trial_id))

    def _suggest(self, trial: Any) -> Suggestion:
        names, params = list(self._spaces), dict[str, Any]()
        self._draw_for(trial.number, ALGORITHM)
        algorithm = trial.suggest_categorical(ALGORITHM, names) if len(names) > 1 else names[0]
        for name, dimension in self._spaces[algorithm].items():
            key = _key(algorithm, name)
            self._draw_for(trial.number, key)
            params[name] = _value(trial, key, dimension)
        return Suggestion(trial.number, algorithm, params)

    def _keyed(self, algorithm: str, params: Mapping[str, Any]) -> dict[str, Any]:
        chosen = {ALGORITHM: algorithm} if len(self._spaces) > 1 else {}
        space = self._spaces[algorithm]
        kept = {name: value for name, value in params.items() if name in space and _within(space[name], value)}
        return chosen | {_key(algorithm, name): value for name, value in kept.items()}

    def _ended(self, trial: FrozenTrial, state: TrialState) -> Trial:
        algorithm = trial.params.get(ALGORITHM, next(iter(self._spaces)))
        params = {
            name: dimension.choices[0] if dimension.fixed else _plain(dimension, trial.params[_key(algorithm, name)])
            for name, dimension in self._spaces[algorithm].items()
        }
        means = tuple(value for _, value in sorted(trial.intermediate_values.items()))
        return Trial(trial.number, algorithm, params, state, means, str(trial.user_attrs.get(REASON, "")))


def _key(algorithm: str, name: str) -> str:
    """Algorithms may have parameters of the same name, with other ranges."""
    return f"{algorithm}.{name}"


def _value(trial: Any, key: str, dimension: Dimension) -> Any:
    if dimension.fixed:
        return dimension.choices[0]
    if dimension.choices:
        return trial.suggest_categorical(key, dimension.choices)
    draw = trial.suggest_int if isinstance(dimension.low, int) else trial.suggest_float
    return _plain(dimension, draw(key, dimension.low, dimension.high, log=dimension.log))


def _plain(dimension: Dimension, value: Any) -> Any:
    """A number that was drawn, in as many digits as a person can read."""
    if not isinstance(value, float) or dimension.low is None or dimension.high is None:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), dimension.low), dimension.high)


def _within(dimension: Dimension, value: Any) -> bool:
    """Whether a value of the params file is a point of the dimension that may be tried."""
    if dimension.low is None or dimension.high is None:
        return not dimension.fixed and any(value == choice and type(value) is type(choice) for choice in dimension.choices)
    whole = isinstance(dimension.low, int)
    return type(value) in ((int,) if whole else (int, float)) and dimension.low <= value <= dimension.high


def _cut_torn_end(path: Path) -> None:
    """What a kill left of the last line would spoil every line after it."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def _storage(optuna: Any, path: Path) -> Any:
    journal = optuna.storages.journal
    try:
        return journal.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=_Alone()))
    except (ValueError, KeyError, TypeError) as error:
        hint = "Delete it: its trials are drawn again, and folds that ended are not rerun."
        raise StoreError(f"the search's journal cannot be read: {error}", where=str(path), hint=hint) from error


class _Alone:
    """The journal's lock. Whoever opens a study holds a lock of Noria's, which a kill -9 does not leave behind."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return


@contextmanager
def _optuna() -> Iterator[Any]:
    """The library, without its own words on standard error. Raises StepError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise StepError("a search needs Optuna, which is not installed", hint="pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield optuna
