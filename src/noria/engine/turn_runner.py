"""Runs turns, one at a time per project: takes the pending triggers, runs a turn under a lease, reruns interrupted turns."""

from __future__ import annotations

import errno
import os
import time

from noria import config
from noria.delivery.context import DeliveryContext
from noria.engine import turn as line_of_stages
from noria.engine import turn_end
from noria.kernel import logs
from noria.kernel.errors import CorruptBlobError, DiskFullError, NoriaError
from noria.kernel.trigger import TriggerKind
from noria.kernel.verdict import Reason
from noria.monitor import judge_rate_limit
from noria.monitor.retraining import recent_starts
from noria.pipeline.steps import thrown_away
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_record import Turn
from noria.pipeline.turn_store import TurnStore
from noria.storage.clock import ClockStore
from noria.storage.disk import FULL, disk_full, unwritable
from noria.storage.lease import HeldJob

_log = logs.get_logger("noria.engine")

AGAIN = " (again, as the disk was full)"
MENDED = 10  # damaged results that one turn may discard


def waiting(context: DeliveryContext) -> Reason | None:
    """Returns why the pending triggers may not start a turn now; None when they may."""
    pending = TriggerStore.of(context).pending()
    project = config.load(context.home)
    kinds, starts = [t.kind for t in pending], recent_starts(context, project)
    return judge_rate_limit.wait_for(project.retrain, kinds, starts, ClockStore.of(context).now())


def resting(context: DeliveryContext) -> bool:
    """Whether the pending triggers wait only for disk space, and it is too early to retry."""
    return judge_rate_limit.rest_s(TriggerStore.of(context).pending(), time.time()) > 0


def turn_once(context: DeliveryContext) -> Turn | None:
    """Reruns an unfinished turn, or starts one from the triggers; None when there is nothing to do or another engine works."""
    unfinished = TurnStore.of(context).unfinished()
    if not unfinished and not TriggerStore.of(context).pending():
        return None
    held = HeldJob.claim(context.ledger, context.name, "turn", context.name)
    if held is None:
        return None
    with held:
        mine = held.over(context)
        left = TurnStore(mine.ledger, context.name).unfinished()
        started = left[0] if left else TurnStore(mine.ledger, context.name).start()
        ended = run(mine, started, by_itself=True) if started is not None else None
        if ended is not None:
            told = logs.facts(turn=ended.number, outcome=str(ended.outcome), release=ended.release)
            _log.debug(f"turn {ended.number} ended: {ended.outcome}", extra=told)
        held.finish(str(ended.outcome) if ended else "nothing to do")
    return ended


def run(context: DeliveryContext, started: Turn, by_itself: bool = False) -> Turn:
    """Runs one turn; an error that Noria raises on purpose ends it with a message.

    A damaged step result is discarded and the turn rerun, which makes the result again. A turn that started by itself
    (``by_itself``) and met a full disk is triggered again.
    """
    try:
        for _ in range(MENDED):
            try:
                return line_of_stages.turn(context, started)
            except CorruptBlobError as error:
                if not thrown_away(context, error):
                    raise
        return line_of_stages.turn(context, started)
    except NoriaError as error:
        return _end(context, started, error, by_itself)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a folder that cannot be written, a defect, a panic: else it is met again
        full = disk_full("the turn ended", context.state) if isinstance(error, OSError) and error.errno in FULL else None
        return _end(context, started, full or unwritable(error) or _defect_error(context, error), by_itself)


def _end(context: DeliveryContext, started: Turn, error: NoriaError, by_itself: bool) -> Turn:
    """Ends a turn with a message. If only the disk was full, its triggers are recorded again, for as long as that lasts."""
    ended = turn_end.fail(context, started, error)
    full = os.strerror(errno.ENOSPC) in str(error)  # a step's own error comes as text
    if by_itself and (isinstance(error, DiskFullError) or full):
        for trigger in TriggerStore.of(context).of_turn(started.id):
            times = int(trigger.detail.get(judge_rate_limit.AGAIN, "0")) + 1
            reason = trigger.reason.removesuffix(AGAIN) + AGAIN
            TriggerStore.of(context).add(trigger.kind, reason, trigger.detail | {judge_rate_limit.AGAIN: str(times)})
    return ended


def _defect_error(context: DeliveryContext, error: BaseException) -> NoriaError:
    """Returns the message for a defect; its traceback goes to the log."""
    logs.outlive(_log, context.state / "daemon.log", "a turn", error)
    return NoriaError(f"an internal error in Noria ({type(error).__name__})", where=str(context.state / "daemon.log"))


def turn_by_hand(context: DeliveryContext, reason: str) -> Turn:
    """Runs a turn now with the code as it is in the home, and takes all pending triggers with it.

    Waits for another engine's turn, and finishes an interrupted turn first.
    """
    told = False
    while True:
        held = HeldJob.claim(context.ledger, context.name, "turn", context.name)
        if held is not None:
            break
        if not told:
            context.progress("another turn is running: waiting for it")
            told = True
        time.sleep(0.1)
    with held:
        mine = held.over(context)
        for left in TurnStore(mine.ledger, context.name).unfinished():
            run(mine, left)
        TriggerStore(mine.ledger, context.name).add(TriggerKind.MANUAL, reason, detail={"tree": "home"})
        started = TurnStore(mine.ledger, context.name).start()
        assert started is not None, "a trigger was just added under the lease"
        ended = run(mine, started)
        held.finish(str(ended.outcome))
    return ended
