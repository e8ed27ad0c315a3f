"""Records the model server's scaling decisions in the audit log, each once, also those made while no daemon ran."""

from __future__ import annotations

from noria.delivery.context import DeliveryContext
from noria.kernel.errors import ServingError

KIND = "server.scaled"
EVERY_S = 2.0


def hear(context: DeliveryContext) -> int:
    """Appends new decisions and returns how many. A server that does not answer is asked again later."""
    try:
        decisions = context.server.scaling(_last(context))
    except ServingError:
        return 0
    new = [decision for decision in decisions if decision["project"] in (None, context.name)]
    for decision in new:
        _append(context, decision)
    return len(new)


def _append(context: DeliveryContext, decision: dict[str, object]) -> None:
    """In one transaction with the look whether another engine was quicker."""
    with context.ledger.transaction():
        if int(str(decision["number"])) > _last(context):
            facts = {name: decision[name] for name in ("number", "before", "size", "rule", "busy", "wait_ms")}
            context.event(KIND, str(decision["environment"]), str(decision["text"]), **facts)


def _last(context: DeliveryContext) -> int:
    """The number of the last decision that was heard."""
    known = context.ledger.events.newest(context.name, 1, kind=KIND)
    return int(str(known[0].facts["number"])) if known else 0
