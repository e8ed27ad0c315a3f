"""How a release takes over an environment: the `rollout` section and the times of freeze."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from noria.config.project import Model
from noria.config.shapes import Section
from noria.kernel.policy import (
    NO_REPLAY,
    Assign,
    Guards,
    QualityGuard,
    QuantileGuard,
    ReplayPolicy,
    RolloutPolicy,
    RolloutStep,
    StepKind,
)
from noria.kernel.tasks import guarded_metrics

PROBATION_S = 86400.0  # where quality is guarded and nothing else is said
P99 = 0.99


def read_rollout(environment: Section, model: Model | None) -> RolloutPolicy:
    """The policy of one environment. Raises ConfigError."""
    given = environment.get("rollout")
    if not isinstance(given, Section):
        return RolloutPolicy()
    guards = _guards(given.get("guard"), model)
    found = RolloutPolicy(
        steps=_steps(given),
        guards=guards,
        replay=_replay(given.get("replay")),
        assign=_assign(given, model),
        **given.given(false_alarm="false_alarm", missed="missed", patience_s="patience", probation_s="probation", pairs="pairs"),
    )
    if guards.quality is not None and "probation" not in given:
        found = replace(found, probation_s=PROBATION_S)
    if "replay" not in given and not any(step.judged for step in found.steps):
        found = replace(found, replay=NO_REPLAY)  # nothing is asked of the candidate
    return found


def _steps(rollout: Section) -> tuple[RolloutStep, ...]:
    steps: list[RolloutStep] = []
    for index, given in enumerate(rollout.get("steps")):
        place, step = rollout.element("steps", index), _step(given)
        if step is None:
            raise place.error("a step is either shadow, pause, approve, or a share", "Write {shadow: 20%}, {pause: 10m} or 25%.")
        reached = max((s.share for s in steps if s.kind is StepKind.CANARY), default=0.0)
        if step.kind is StepKind.CANARY and step.share <= reached:
            raise place.error("each step must be larger than the one before")
        if step.kind is StepKind.SHADOW and reached:
            raise place.error("a shadow step comes before the candidate gets live traffic")
        steps.append(step)
    if not steps or steps[-1].kind is not StepKind.CANARY or steps[-1].share != 1.0:
        raise rollout.at("steps").error("the last step must be 100%", "Write steps: [10%, 50%, 100%], or rollout: direct.")
    return tuple(steps)


def _step(given: Any) -> RolloutStep | None:
    if given == "shadow":
        return RolloutStep(StepKind.SHADOW, 1.0)
    if not isinstance(given, Section):
        return RolloutStep(StepKind.CANARY, given)
    if len(given.values) != 1:
        return None
    made: dict[str, Any] = {
        "shadow": lambda share: RolloutStep(StepKind.SHADOW, share),
        "pause": lambda seconds: RolloutStep(StepKind.PAUSE, seconds=seconds),
        "approve": lambda people: RolloutStep(StepKind.APPROVE, approvals=people),
    }
    ((name, value),) = given.values.items()
    found: RolloutStep = made[name](value)
    return found


def _replay(given: int | Section | None) -> ReplayPolicy:
    if given is None:
        return ReplayPolicy()
    if isinstance(given, int):
        return ReplayPolicy(given)
    return ReplayPolicy(**given.given(requests="last", differ="differ"))


def _assign(rollout: Section, model: Model | None) -> Assign:
    found = Assign(rollout.get("assign", Assign.REQUEST))
    if found is Assign.KEY and (model is None or model.key is None):
        raise rollout.at("assign").error("`assign: key` needs a key", "Name the column in `model: {key: ...}`.")
    return found


def _guards(guard: Section | None, model: Model | None) -> Guards:
    if guard is None:
        return Guards()
    latency: Section | None = guard.get("latency")
    slow: dict[str, Any] = latency.given(slow_by="by") if latency else {}
    if latency and "over" in latency:
        slow["slow_ms"] = latency.get("over") * 1000
    if latency and "p99" in latency:
        slow["quantile"] = QuantileGuard(P99, latency.get("p99").get("by") * 1000)
    return Guards(**guard.given(errors="errors", failing="failing"), **slow, quality=_quality(guard, model))


def _quality(guard: Section, model: Model | None) -> QualityGuard | None:
    named = [name for name in guarded_metrics() if name in guard]
    if not named:
        return None
    name, place = named[0], guard.at(named[0])
    if len(named) > 1:
        raise guard.at(named[1]).error(f"quality is guarded by one measure, and {name} is already given")
    if model is None:
        raise place.error(f"a project without a model has no {name}")
    if name not in (guarded := model.task.definition.guarded):
        raise place.error(f"a {model.task} model has no {name}", f"It has: {', '.join(guarded)}.")
    value = guard.get(name)
    if not isinstance(value, Section):
        return QualityGuard(name, value)
    by, bound = value.get("by"), value.get("bound")
    if by >= bound:
        raise value.at("by").error(f"by {by:g} is not below bound {bound:g}")
    return QualityGuard(name, by, bound)
