"""What two runs of a release agree in: the bytes that each step left, and the metrics. Where they part, and why.

The first step that leaves other bytes from equal inputs is run once more: when its own two results differ it is not
deterministic, and its code is searched for why; when they are equal, the difference comes from the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from noria.config import Project
from noria.pipeline import orders, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.run import StepRecord
from noria.pipeline.run_store import StepStore
from noria.pipeline.search import NAME as SEARCH
from noria.pipeline.train import training
from noria.releases.evidence import Evaluation
from noria.releases.judge_determinism import Cause, causes, causes_in_command
from noria.releases.release import Release, ServedForm
from noria.storage.blobs import BlobStore

AGAIN_S = 600.0  # a step that took longer is not run once more to see whether it is deterministic
CAUSES = 3  # that the sentence names
CHOSEN = ("algorithm", "train", "params", "value")  # what a search leaves; the rest tells how it went


class StepAgreement(msgspec.Struct, frozen=True):
    """One step, then and now. ``agrees`` is None when what it left then is no longer known."""

    name: str
    agrees: bool | None
    files: tuple[str, ...] = ()  # that differ


class MetricAgreement(msgspec.Struct, frozen=True):
    """One metric, then and now; None where it was not measured."""

    recorded: float | None
    measured: float | None
    difference: float  # absolute; infinite when one of them is missing or no number


class Divergence(msgspec.Struct, frozen=True):
    """The first step that left other bytes from equal inputs. ``deterministic`` is None when it was not run once more."""

    step: str
    files: tuple[str, ...]
    deterministic: bool | None
    causes: tuple[str, ...]  # places in its code that may be why
    text: str


def of_steps(
    context: PipelineContext, pinned_run: PinnedRun, recorded: Sequence[StepRecord], outputs: BlobStore
) -> tuple[StepAgreement, ...]:
    """Each step of this run beside the same one of the ``recorded`` run, in the order in which one needs the other.

    What steps left then is looked up in ``outputs``, as far as it is still kept there.
    """
    then = {record.name: record for record in recorded}
    known = list(pinned_run.project.steps)
    ordered = sorted(pinned_run.records, key=lambda record: known.index(record.name) if record.name in known else len(known))
    return tuple(
        _agreement(context, outputs, then[record.name], record) for record in ordered if record.name in then and record.output
    )


def _agreement(context: PipelineContext, outputs: BlobStore, then: StepRecord, now: StepRecord) -> StepAgreement:
    if then.output == now.output:
        return StepAgreement(now.name, True)
    if then.output is None or not outputs.is_sound(then.output):
        return StepAgreement(now.name, None)
    before = msgspec.json.decode(outputs.read(then.output), type=steps.StepOutput)
    differ = tuple(_differing(before, steps.output(context, now)))
    return StepAgreement(now.name, not differ, differ)


def _differing(before: steps.StepOutput, after: steps.StepOutput) -> Iterator[str]:
    """Names of files that differ; of a step without files, what it found."""
    for name in sorted(before.files.keys() | after.files.keys()):
        if before.files.get(name) != after.files.get(name):
            yield name
    if not before.files and not after.files:
        yield from (name for name in CHOSEN if before.result.get(name) != after.result.get(name))


def divergence(
    context: PipelineContext, pinned_run: PinnedRun, found: Sequence[StepAgreement], matter: list[str]
) -> Divergence | None:
    """The first step that differs; all that it needs agrees, for they are in order."""
    first = next((step for step in found if step.agrees is False), None)
    if first is None:
        return None
    stable, seen = _once_more(context, pinned_run, first.name), _causes(context, pinned_run, first.name)
    if stable:
        known = ", ".join(matter[:3]) or "nothing that is recorded differs"
        why, seen = f"two runs here agree, so the environment makes the difference ({known})", []
    else:
        shown = [cause.text for cause in seen[:CAUSES]]
        more = f" and {len(seen) - CAUSES} more" if len(seen) > CAUSES else ""
        sure = "not deterministic" if stable is False else "perhaps not deterministic"
        why = f"{sure}: {'; '.join(shown)}{more}" if shown else f"{sure}; its code does not show why"
    text = f"{first.name} is the first step that differs: {why}"
    return Divergence(first.name, first.files, stable, tuple(cause.text for cause in seen), text)


def _once_more(context: PipelineContext, pinned_run: PinnedRun, name: str) -> bool | None:
    """Whether a step leaves the same bytes in a second run here; None when it is not run again: it takes long, or is a search."""
    done = {record.name: record for record in pinned_run.records}
    step = pinned_run.project.steps.get(name)
    if done[name].seconds > AGAIN_S or (step is None and name != pinned_run.project.result_name("train")):
        return None
    context.progress(f"{name}: differs; running it once more to see whether it is deterministic")
    again = replace(pinned_run, records=[])
    if step is not None:
        order = orders.user_step(context, again, step, {n: r for n, r in done.items() if n in pinned_run.project.steps})
    else:
        order = training(context, replace(again, project=_as_found(context, pinned_run, done)), done)
    record = steps.perform(context, again, replace(order, retries=0))
    if record.output is None:
        return False
    return not any(_differing(steps.output(context, done[name]), steps.output(context, record)))


def _as_found(context: PipelineContext, pinned_run: PinnedRun, done: Mapping[str, StepRecord]) -> Project:
    """The project with what its search found in place of the search."""
    model = pinned_run.project.model
    assert model is not None
    if model.search is None:
        return pinned_run.project
    found = steps.output(context, done[pinned_run.project.result_name(SEARCH)]).result
    return replace(
        pinned_run.project,
        model=replace(model, search=None, train=found["train"]),
        params={**pinned_run.project.params, "train": dict(found["params"])},
    )


def _causes(context: PipelineContext, pinned_run: PinnedRun, name: str) -> list[Cause]:
    """What the code of a step, and of the project's modules that it imports, shows."""
    latest = StepStore.of(context).latest(name)
    paths = latest[1].get("files", {}) if latest is not None else {}
    places = {path: _find(path, (pinned_run.tree, *pinned_run.code_paths)) for path in paths}
    files = {
        path: place.read_text(errors="replace") for path, place in places.items() if place is not None and path.endswith(".py")
    }
    step = pinned_run.project.steps.get(name)
    return [*(causes_in_command(step.cmd) if step is not None and step.cmd else []), *causes(files)]


def _find(path: str, roots: Sequence[Path]) -> Path | None:
    return next((root / path for root in roots if (root / path).is_file()), None)


def of_metrics(recorded: Evaluation, measured: Evaluation) -> dict[str, MetricAgreement]:
    found = {}
    for name in sorted(recorded.metrics.keys() | measured.metrics.keys()):
        values = [e.metrics[name].value if name in e.metrics else None for e in (recorded, measured)]
        found[name] = MetricAgreement(values[0], values[1], _apart(*values))
    return found


def _apart(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return float("inf")
    if one != one and other != other:  # neither is a number: they agree
        return 0.0
    apart = abs(one - other)
    return apart if apart == apart else float("inf")


def sentence(
    release: Release,
    form: ServedForm,
    same: bool,
    metrics: Mapping[str, MetricAgreement],
    tolerance: float,
    diverged: Divergence | None,
) -> str:
    """Whether a release was reproduced, by its bytes (``same``) or its metrics, and where it parted."""
    name, worst = max(metrics.items(), key=lambda item: item[1].difference, default=("", MetricAgreement(0.0, 0.0, 0.0)))
    if worst.difference > tolerance:
        text = (
            f"{release.version} not reproduced: {name} differs by {worst.difference:.4g} "
            f"({_value(worst.recorded)} recorded, {_value(worst.measured)} measured), more than {tolerance:g}"
        )
    elif same:
        text = f"{release.version} reproduced: the {form} model is the same, byte for byte, and every metric agrees"
    else:
        within = f"within {tolerance:g} (worst {worst.difference:.1e})"
        text = f"{release.version} reproduced: the model's bytes differ, every metric agrees {within}"
    return f"{text}; {diverged.text}" if diverged is not None else text


def _value(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"
