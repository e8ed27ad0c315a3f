"""One turn, from trigger to release. Read it from top to bottom, and ``candidate_stages`` after it: that is the line."""

from __future__ import annotations

from contextlib import suppress

from noria.delivery.context import DeliveryContext
from noria.engine.plan import plan
from noria.engine.policy_change import contract_words
from noria.engine.turn_end import end, enter
from noria.kernel.errors import DataError, StepError
from noria.kernel.trigger import TriggerKind
from noria.pipeline.check import check
from noria.pipeline.context import PinnedRun, StartedRun
from noria.pipeline.graph import restore
from noria.pipeline.pin import fix, pin
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Stage, Turn, TurnOutcome
from noria.releases.store import ReleaseStore


def turn(context: DeliveryContext, started: Turn) -> Turn:
    """Runs one turn.

    An interrupted turn is rerun from the start. Its commit and run are pinned in the ledger, deliveries stay accepted, finished
    steps are found by content, a sealed release keeps its version, and a rollout that has begun continues: nothing is done twice,
    and nothing stays half done.
    """
    run = pin(context, started)
    sealed = ReleaseStore.of(context).of_turn(started.id)
    if sealed is not None:
        from noria.engine import candidate_stages  # as below

        return candidate_stages.resume_rollout(context, run, sealed)
    try:
        checked = take_data(context, run)
    except StepError as error:
        return end(context, run, TurnOutcome.STEP_FAILED, str(error))
    return checked if isinstance(checked, Turn) else work(context, checked)


def take_data(context: DeliveryContext, run: StartedRun) -> PinnedRun | Turn:
    """Checks. Returns the run with its data fixed, or the turn where it ends here."""
    enter(context, run, Stage.CHECK)
    checked = check(context, run)
    if not checked.passed:
        with suppress(DataError):  # without data there is no run that could hold the tests' log
            run = fix(context, run)
        return end(context, run, TurnOutcome.CHECK_FAILED, checked.sentence())
    if run.refused and not has_other_trigger(context, run):
        return end(context, run, TurnOutcome.QUARANTINED, "; ".join([*run.refused, *contract_words(run)]))
    return fix(context, run)


def work(context: DeliveryContext, pinned_run: PinnedRun) -> Turn:
    """Plans, and runs all later stages where there is work."""
    try:
        settled = plan(context, pinned_run)
        if settled is not None:
            if pinned_run.by_hand:
                restore(context, pinned_run)
            return end(context, pinned_run, settled[0], settled[1].text)
        from noria.engine import candidate_stages  # a turn where nothing changed needs no training, no packaging, no server

        return candidate_stages.make_release(context, pinned_run)
    except StepError as error:  # the run is kept, with its finished steps and the log of the failed one
        return end(context, pinned_run, TurnOutcome.STEP_FAILED, str(error))


def has_other_trigger(context: DeliveryContext, run: StartedRun) -> bool:
    """Whether anything other than the refused data started the turn: a commit, the schedule, the monitor."""
    more = (TriggerKind.PUSH, TriggerKind.SCHEDULE, TriggerKind.BREACH)
    return any(t.kind in more for t in TriggerStore.of(context).of_turn(run.turn.id))
