"""`noria feedback`: records labels for predictions."""

from __future__ import annotations

import json
from typing import IO, Any

import click

from noria.cli import http
from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option
from noria.cli.predict import parse
from noria.kernel.errors import UsageError
from noria.kernel.words import plural


@click.command()
@click.argument("words", nargs=-1, metavar="[ID] [LABEL]")
@click.option("--key", help="The entity's key instead of a prediction id.")
@click.option(
    "--file", "file", type=click.File("r", encoding="utf-8"), help='A JSON list of {"id" or "key", "label"}; - is standard input.'
)
@click.option("--environment", "-e", help="The environment that predicted; by default the last one of noria.yaml.")
@json_option
@pass_home
def command(
    home: Home, words: tuple[str, ...], key: str | None, file: IO[str] | None, environment: str | None, as_json: bool
) -> None:
    """Record what really happened: the label of a prediction.

    \b
    Example:  noria feedback 0197a3c2e5f1-9c1b7e22 1
              noria feedback --key 2013-04-01-UA-1545 late
              noria feedback --file labels.json

    JSON: the server's answer.
    """
    labels = parse(file.read()) if file is not None else [single(words, key)]
    _, base = http.address(home, environment)
    answer = http.post(base, "/feedback", labels)
    emit(as_json, answer if isinstance(answer, dict) else {"answer": answer}, lambda: f"recorded: {_count(labels)}")


def single(words: tuple[str, ...], key: str | None) -> dict[str, Any]:
    """``ID LABEL`` or ``--key K LABEL`` as the server takes it; raises UsageError."""
    if len(words) != (1 if key else 2):
        raise UsageError("give a prediction id and a label, or --key KEY and a label", hint="noria feedback ID LABEL")
    return {"key": key, "label": value(words[0])} if key else {"id": words[0], "label": value(words[1])}


def value(text: str) -> Any:
    """A label as typed: a number or true/false where it is one, else text."""
    try:
        decoded = json.loads(text)
    except ValueError:
        return text
    return decoded if isinstance(decoded, bool | int | float | str) else text


def _count(labels: Any) -> str:
    count = len(labels) if isinstance(labels, list) else 1
    return plural(count, "label")
