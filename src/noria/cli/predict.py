"""`noria predict`: ask the running model server, or score whole files with the same release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import click

from noria.cli import http
from noria.cli.context import Home, pass_home
from noria.cli.output import ExitCode, emit, json_option, number, pairs, plain, table
from noria.kernel.errors import UsageError


@click.command()
@click.argument("record", required=False)
@click.option(
    "--file",
    "file",
    type=click.File("r", encoding="utf-8"),
    help="A file with a JSON record or a list of them; - is standard input.",
)
@click.option(
    "--environment", "-e", help="The environment to ask, or whose champion to take; by default the last one of noria.yaml."
)
@click.option("--input", "given", metavar="FILE|PATTERN|DATASET", help="The rows to score, without the server.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file for the answers; its suffix says the format."
)
@click.option(
    "--release", metavar="RELEASE|FILE", help="With --input: the release, or exported file, that scores; by default the champion."
)
@click.option("--key", type=click.Path(path_type=Path), help="The public key (signing.pub) that an exported FILE is signed with.")
@click.option("--columns", metavar="NAME,...", help="The columns of the input to keep in the output; by default all.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be answered.")
@click.option("--restart", is_flag=True, help="Start from the first row, replacing the output if it exists.")
@json_option
def command(
    record: str | None,
    file: IO[str] | None,
    environment: str | None,
    given: str | None,
    output: Path | None,
    release: str | None,
    key: Path | None,
    columns: str | None,
    strict: bool,
    restart: bool,
    as_json: bool,
) -> int:
    """Ask the model server for predictions, or score whole files without it.

    With --input and --output, each row of csv, tsv, jsonl, json, parquet or arrow files gets the same answer as from /predict,
    beside the columns of the input; the column `release` names the release. It needs neither the daemon nor the server, and
    writes nothing to the prediction log. After Ctrl-C or a crash, the same command continues where it stopped; the output file
    appears only when it is complete. Rows that cannot be answered go to OUTPUT.rejected.jsonl with the reason, and the exit code
    is 1.

    \b
    Example:  noria predict '{"carrier": "UA", "origin": "EWR", "hour": 17}'
              noria predict --file rows.json -e production
              noria predict --input rows.parquet --output scored.parquet
              noria predict --input 'days/*.csv' --output scored.csv --release v12 --columns id
              noria predict --input flights --output scored.parquet --release v12.noria.tar --key signing.pub

    JSON: the server's answer; predictions [{id, release, ...}]. With --input: output, release, digest, rows, rejected,
    rejected_file (null when there are none), resumed (rows that an interrupted run had done), seconds, rows_per_s.
    """
    if given is None:
        alone = {"--output": output, "--release": release, "--key": key, "--columns": columns}
        named = [name for name, value in alone.items() if value is not None]
        if named or strict or restart:
            raise UsageError(f"{(named or ['--strict' if strict else '--restart'])[0]} goes with --input")
        _ask(record, file, environment, as_json)
        return ExitCode.PASSED
    if record is not None or file is not None:
        raise UsageError("--input names the rows to score: a record cannot be given as well")
    if output is None:
        raise UsageError("--input needs --output", hint="noria predict --input rows.csv --output scored.csv")
    from noria.cli import predict_files  # Polars, Arrow and ONNX: only whole files need them

    kept = None if columns is None else tuple(filter(None, (name.strip() for name in columns.split(","))))
    return predict_files.score(
        predict_files.ScoreOptions(given, output, environment, release, key, kept, strict, restart), as_json
    )


@pass_home
def _ask(home: Home, record: str | None, file: IO[str] | None, environment: str | None, as_json: bool) -> None:
    rows = records(record, file)
    _, base = http.address(home, environment)
    answer = http.post(base, "/predict", rows)
    emit(as_json, answer if isinstance(answer, dict) else {"predictions": answer}, lambda: render(answer))


def records(text: str | None, file: IO[str] | None) -> Any:
    """What was given, decoded. Raises UsageError for anything that is not JSON."""
    if (text is None) == (file is None):
        raise UsageError("give either a record or --file", hint="noria predict '{\"column\": 1}'")
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
