"""`noria release`: import a model that was trained elsewhere; withdraw a release, lift a bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noria.cli.action import ActionGroup
from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, pairs, plural
from noria.cli.versions import at_work
from noria.kernel import names
from noria.kernel.tasks import DEFINITIONS
from noria.releases import importing
from noria.views.status import release_facts

if TYPE_CHECKING:
    from noria.releases.importing import ReleaseImport

file_path = click.Path(path_type=Path)


@click.group(cls=ActionGroup, name="release")
def command() -> None:
    """Import, withdraw and readmit releases by hand; `noria releases` lists and exports them.

    \b
    Example:  noria release import churn.onnx --sample rows.csv --label churned
              noria release withdraw v3 --why "trained on the wrong labels"
              noria release lift v3
    """


@command.command("import")
@click.argument("file", type=file_path)
@click.option("--signature", type=file_path, help="A YAML file that describes requests: inputs, task, classes, key, event_time.")
@click.option(
    "--sample",
    type=file_path,
    help="Rows of its training or of requests: they give names and types, and parity is checked on them.",
)
@click.option("--label", metavar="COLUMN", help="The column of the sample that is the label, not an input.")
@click.option("--task", type=click.Choice(list(DEFINITIONS)), help="The task, if the file does not say it.")
@click.option("--classes", metavar="A,B,...", help="The names of the classes, in the order of the model's probabilities.")
@click.option("--key", metavar="COLUMN", help="The column of a request that identifies the customer, the flight, ...")
@click.option("--event-time", metavar="COLUMN", help="The column of a request that says when it happens.")
@click.option("--trust", "trusted", multiple=True, metavar="TYPE", help="A type that a skops file may hold. Repeatable.")
@click.option("--vouch-for-pickle", "vouched", is_flag=True, help="Load a pickle, which RUNS THE CODE IN IT, as you.")
@json_option
@pass_home
def take_in(
    home: Home,
    file: Path,
    signature: Path | None,
    sample: Path | None,
    label: str | None,
    task: str | None,
    classes: str | None,
    key: str | None,
    event_time: str | None,
    trusted: tuple[str, ...],
    vouched: bool,
    as_json: bool,
) -> None:
    """Make a release of FILE: ONNX (.onnx), LightGBM (.txt), XGBoost (.json, .ubj), CatBoost (.cbm), skops (.skops),
    PyTorch (.pt2), or a pickle (.joblib, .pkl); its content decides which.

    The model is read in a separate process. If it converts to ONNX and answers alike, it is compiled; otherwise it is hosted,
    without any project code. The release is signed and numbered like any other. It passed no gates: `noria promote` is its
    approval. A noria.yaml with `project: NAME` is enough.

    A pickle is code. Loading it runs that code as you, here and in every host process that serves it. It is refused unless you
    vouch for it, which is recorded with the file's sha256.

    \b
    Example:  noria release import churn.onnx --sample rows.csv --label churned
              noria release import model.txt --signature signature.yaml
              noria release import pipeline.joblib --sample rows.parquet --vouch-for-pickle

    JSON keys: release {version, digest, form, ...}, origin {file, sha256, framework, by, at, vouched, compared_on, derived,
    notes, written_with, read_with, warnings},
    signature {inputs, task, classes, key, event_time}, parity {rows, worst, over, holds} (null where it did not convert).
    """
    named = tuple(filter(None, (c.strip() for c in classes.split(",")))) if classes else ()
    order = importing.ImportOrder(file, signature, sample, label, task, named, key, event_time, trusted, vouched)
    with at_work(home, as_json) as context:
        found = importing.take_in(context, order)
    document = {
        "release": release_facts(found.release),
        "origin": found.origin,
        "signature": found.signature,
        "parity": found.parity,
    }
    emit(as_json, document, lambda: _render(found))


def _render(found: ReleaseImport) -> str:
    release, origin, signature = found.release, found.origin, found.signature
    inputs = signature["inputs"]
    shown = ", ".join(f"{i['name']} ({i['kind']}{', nullable' if i['nullable'] else ''})" for i in inputs[:12])
    more = f", and {len(inputs) - 12} more" if len(inputs) > 12 else ""
    items: list[tuple[str, Any]] = [
        ("release", f"{release.version}, {release.form}, {names.short(release.digest)}; imported, not gated"),
        ("from", f"{origin['file']} ({origin['framework']}), sha256 {origin['sha256'][:16]}"),
        ("task", signature["task"] + (f": {', '.join(signature['classes'][:12])}" if signature["classes"] else "")),
        (plural(len(inputs), "input"), shown + more),
        ("form", found.reason),
        ("compared", f"on {origin['compared_on']}"),
        *[("note", text) for text in origin["notes"]],
        *[("derived", text) for text in origin["derived"]],
        *[("warning", text) for text in origin["warnings"]],
    ]
    return f"{pairs(items)}\n\nnext: noria promote {release.version}"
