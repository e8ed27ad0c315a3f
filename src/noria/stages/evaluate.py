"""Evaluate: candidate and champion, each through its own sealed form, on the same raw held-out rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from noria.adapters import environment
from noria.adapters.executors.task import Resources, StepTask
from noria.decide.plan import StepFacts
from noria.domain.evaluation import Evaluation
from noria.domain.release import Release
from noria.domain.run import StepState
from noria.errors import NoriaError, StepError
from noria.stages import steps
from noria.stages.bundle import verify
from noria.stages.line import Line, Sheet
from noria.stages.orders import Inputs
from noria.stages.package import Package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from noria.stages.measure import Reference


@dataclass(frozen=True, slots=True)
class Scores:
    predictions: NDArray[np.float64] | None
    note: str  # why there are none


def evaluate(line: Line, sheet: Sheet, package: Package, champion: Release | None) -> tuple[Evaluation, Reference]:
    """Measure the candidate; where a champion exists, compare both on the same rows."""
    model = sheet.project.model
    assert model is not None
    with ThreadPoolExecutor(2) as pool:
        mine = pool.submit(_score, line, sheet, f"run:{sheet.run_id}", package.model, package, "score.candidate")
        theirs = pool.submit(_champion_scores, line, sheet, package, champion)
        candidate, other = mine.result(), theirs.result()
    if candidate.predictions is None:
        raise StepError(candidate.note, where="step score.candidate")
    from noria.stages import measure  # the numerics: only work that was done is measured

    return measure.measure(sheet, package, candidate.predictions, other, champion)


def _champion_scores(line: Line, sheet: Sheet, package: Package, champion: Release | None) -> Scores | None:
    if champion is None:
        return None
    bundle = line.bundle(champion.digest)
    try:
        verify(line, champion)
    except NoriaError as error:
        return Scores(None, error.message)
    note = _overlap(bundle, package)
    if note:
        return Scores(None, note)
    return _score(line, sheet, f"release:{champion.digest}", champion.digest, package, "score.champion")


def _overlap(bundle: Path, package: Package) -> str:
    """Why the champion may not be measured on these rows: it was trained on some of them."""
    training = bundle / "evidence" / "training.json"
    if not training.is_file():
        return "the champion's training record is missing"
    before, now = msgspec.json.decode(training.read_bytes())["split"], package.trained["split"]
    if before["kind"] != now["kind"]:
        return f"the champion was split by {before['kind']}, the candidate by {now['kind']}: it may have seen these rows"
    if now["kind"] == "time" and before["train_until"] > now["holdout_from"]:
        return "the champion was trained on some of these rows"
    return ""


def _score(line: Line, sheet: Sheet, tree: str, identity: str, package: Package, name: str) -> Scores:
    """Score through the sealed form, in a process of its own with the sealed code and nothing else of the project."""
    model = sheet.project.model
    assert model is not None
    facts = StepFacts(
        code=identity,
        inputs={"holdout": package.holdout_digest},
        environment=environment.digest(sheet.environment),
    )
    manifest = msgspec.json.decode((line.places.tree(tree) / "manifest.json").read_bytes())
    inputs = Inputs()
    task = StepTask(
        f"{sheet.run_id}/{name}",
        tree,
        target="noria.stages.work.score:run",
        job={"bundle": ".", "rows": inputs.add(package.holdout_digest, "holdout.arrow")},
        roots=tuple(f"code/{path}" for path in manifest.get("hosted", {}).get("paths", [])) or (".",),
        inputs=inputs.files,
        outs={"scores": "scores.npy"},
        resources=Resources(None, model.memory_bytes, model.timeout_s),
    )
    record = steps.perform(line, sheet, steps.Order(name, facts, task))
    if record.state is StepState.FAILED:
        return Scores(None, record.reason.text.splitlines()[0])
    import numpy as np

    return Scores(np.load(line.blobs.path(steps.output(line, record).files["scores"]), allow_pickle=False), "")
