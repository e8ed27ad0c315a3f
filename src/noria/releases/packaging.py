"""Package: the model in its fastest safe form, proven to predict the same as the original on held-out rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.models import golden, weights
from noria.models.further_tables import file_of
from noria.models.signature import Signature
from noria.pipeline import environment, sealable_code, steps
from noria.pipeline.context import PinnedRun, PipelineContext
from noria.pipeline.judge_staleness import StepFacts
from noria.pipeline.model_facts import feature_params, model_facts
from noria.pipeline.orders import TaskInputs
from noria.pipeline.run import StepRecord
from noria.releases import bundle
from noria.releases.bundle import FurtherTable, HostedFacts, Manifest, ModelFacts
from noria.releases.release import Release, ServedForm

PACKAGED = {"onnx": "model.onnx", "weights": "model.onnx" + weights.SUFFIX, "golden": golden.GOLDEN}


class Package(msgspec.Struct, frozen=True):
    """A form that can be scored: a folder laid out like a bundle, not yet sealed."""

    folder: Path
    form: ServedForm
    trained: dict[str, Any]  # what training reported: signature, profile, split
    packaged: dict[str, Any]  # parity, latency, size
    holdout: Path
    holdout_digest: str
    model: str  # digest of the model file that is served; of a graph it stands for its weights, too

    @property
    def signature(self) -> Signature:
        """What it is served with: where only that compiles, narrower than what training found."""
        return served_signature(self.trained, self.packaged)


def package(context: PipelineContext, pinned_run: PinnedRun, trained: StepRecord) -> Package:
    """Compile where it converts and parity holds, else keep the original in a host process."""
    made = steps.output(context, trained)
    record = steps.demand(steps.perform(context, pinned_run, _order(context, pinned_run, made, trained)))
    packed = steps.output(context, record)
    form = ServedForm(packed.result["form"])
    folder = context.folder(pinned_run.run_id) / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = packed.files["onnx"] if form is ServedForm.COMPILED else made.files["model"]
    context.blobs.materialise(model, folder / model_file(form))
    if form is ServedForm.COMPILED and "weights" in packed.files:
        context.blobs.materialise(packed.files["weights"], folder / PACKAGED["weights"])
    context.blobs.materialise(packed.files["golden"], folder / golden.GOLDEN)
    if pinned_run.project.model is not None:
        for name in pinned_run.project.model.also:
            context.blobs.materialise(made.files[file_of(name)], folder / file_of(name))
    if form is ServedForm.HOSTED:
        sealable_code.lay_out(context, pinned_run, folder / bundle.CODE)
    bundle.write_manifest(folder, serving_manifest(pinned_run, form, made.result, packed.result))
    holdout = context.named_blob(made.files["holdout"], "holdout.arrow")
    return Package(folder, form, made.result, packed.result, holdout, made.files["holdout"], model)


def same_as(context: PipelineContext, package: Package, serving: Release) -> bool:
    """Whether the package would answer exactly as the release that serves: same model, same signature, nothing hosted."""
    if package.form is not ServedForm.COMPILED or serving.form is not ServedForm.COMPILED:
        return False
    manifest = bundle.read_manifest(context.bundle(serving.digest), serving.digest)
    return manifest.files.get(manifest.model.file) == package.model and manifest.signature == package.signature


def served_signature(trained: dict[str, Any], packaged: dict[str, Any]) -> Signature:
    return msgspec.convert(packaged.get("signature") or trained["signature"], Signature)


def model_file(form: ServedForm) -> str:
    """The file of a bundle that holds the model."""
    return "model.onnx" if form is ServedForm.COMPILED else "model.joblib"


def model_facts_of(form: ServedForm) -> ModelFacts:
    return ModelFacts(model_file(form), "onnx" if form is ServedForm.COMPILED else "python")


def serving_manifest(pinned_run: PinnedRun, form: ServedForm, trained: dict[str, Any], packaged: dict[str, Any]) -> Manifest:
    """The part of a manifest that the model server reads."""
    model = pinned_run.project.model
    assert model is not None
    hosted = None
    if form is ServedForm.HOSTED:
        paths = ("src", ".") if (pinned_run.tree / "src").is_dir() else (".",)
        hosted = HostedFacts(model.features, paths, trained.get("frames", {}), packaged["batch"])
    signature = served_signature(trained, packaged)
    manifest = Manifest(bundle.FORMAT, pinned_run.project.name, form, signature, model_facts_of(form), hosted)
    also = {name: FurtherTable(file_of(name), digest) for name, digest in trained.get("also", {}).items()}
    return replace(manifest, also=also, feature_params=feature_params(pinned_run, model) if hosted is not None else {})


def _order(context: PipelineContext, pinned_run: PinnedRun, made: steps.StepOutput, trained: StepRecord) -> steps.StepOrder:
    model = pinned_run.project.model
    assert model is not None
    assert trained.output is not None
    inputs = TaskInputs()
    job = {
        "model_file": inputs.add(made.files["model"], "model.joblib"),
        "holdout": inputs.add(made.files["holdout"], "holdout.arrow"),
        "signature": made.result["signature"],
        "frames": made.result.get("frames", {}),
        "tried": made.result.get("tried", []),
        "model": model_facts(pinned_run, model),
    }
    also = {name: inputs.add(made.files[file_of(name)], f"{name}.parquet") for name in model.also}
    given = feature_params(pinned_run, model)
    job |= ({"also": also} if also else {}) | ({"feature_params": given} if given else {})
    facts = StepFacts(
        code=trained.key,
        files={},
        inputs={"train": trained.output},
        params={"golden": str(golden.VERSION), "batch": "2", "asked": "2"},
        command=None,
        environment=environment.digest(pinned_run.environment),
    )
    name = pinned_run.project.result_name("package")
    return steps.model_order(pinned_run, facts, name, "noria.models.conversion:run", job, inputs.files, PACKAGED)
