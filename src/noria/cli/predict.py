"""`noria predict`: ask the running model server."""

from __future__ import annotations

import json
from typing import IO, Any

import click

from noria.cli import http
from noria.cli.context import Home, pass_home
from noria.cli.output import emit, json_option, number, pairs, plain, table
from noria.errors import UsageError


@click.command()
@click.argument("record", required=False)
@click.option(
    "--file", "file", type=click.File("r", encoding="utf-8"), help="A JSON record, or a list of them; - is standard input."
)
@click.option("--environment", "-e", help="Where to ask; the first environment by default.")
@json_option
@pass_home
def command(home: Home, record: str | None, file: IO[str] | None, environment: str | None, as_json: bool) -> None:
    """Ask the model server for a prediction.

    \b
    Example:  noria predict '{"carrier": "UA", "origin": "EWR", "hour": 17}'
              noria predict --file rows.json -e production

    JSON: the server's answer; predictions [{id, release, ...}].
    """
    rows = records(record, file)
    _, base = http.address(home, environment)
    answer = http.post(base, "/predict", rows)
    emit(as_json, answer if isinstance(answer, dict) else {"predictions": answer}, lambda: render(answer))


def records(text: str | None, file: IO[str] | None) -> Any:
    """What was given, decoded. Raises UsageError for anything that is not JSON."""
    if (text is None) == (file is None):
        raise UsageError("give a record or --file, one of the two", hint="noria predict '{\"column\": 1}'")
    content = text if text is not None else file.read() if file is not None else ""
    return parse(content)


def parse(content: str) -> Any:
    """JSON, or a UsageError that says where it breaks."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise UsageError(f"that is not JSON: {error}", hint='Names and texts take double quotes: {"carrier": "UA"}') from error


def render(answer: Any) -> str:
    """One prediction as lines, several as a table."""
    predictions = answer.get("predictions", [answer]) if isinstance(answer, dict) else answer
    shared = (
        {k: v for k, v in answer.items() if k != "predictions"} if isinstance(answer, dict) and "predictions" in answer else {}
    )
    head = pairs([(k, _cell(v)) for k, v in shared.items()])
    if len(predictions) == 1:
        return f"{head}\n{pairs([(k, _cell(v)) for k, v in predictions[0].items()])}".strip()
    columns = list(dict.fromkeys(k for p in predictions for k in p))
    return f"{head}\n{table(columns, [[_cell(p.get(c)) for c in columns] for p in predictions])}".strip()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return plain(json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value)
