"""How long the shadow log is kept: as long as a rollout that is still judged may read it."""

from __future__ import annotations

import time

from noria.delivery.rollout_record import RolloutState
from noria.delivery.rollout_store import RolloutStore
from noria.predictions.shadow_log import shadow_folder, tidy
from noria.storage.context import StoreContext

JUDGED = frozenset(
    {RolloutState.WAITING, RolloutState.REPLAY, RolloutState.CANARY, RolloutState.HELD, RolloutState.PROBATION}
)  # what may still read it


def tidy_shadows(context: StoreContext, environment: str) -> int:
    """Remove what was scored in the shadow before the rollouts that are still judged there began; how many segments."""
    projects = [row.name for row in context.ledger.projects.list()]
    rollouts = [found for project in projects for found in RolloutStore(context.ledger, project).list()]
    needed = [r.started_at for r in rollouts if r.environment == environment and r.state in JUDGED]
    return tidy(shadow_folder(context.state, environment), min(needed, default=time.time()))
