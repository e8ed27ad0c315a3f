"""What commands print: one JSON document for programs, sentences and tables for people."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import click

from noria.cli.streams import in_utf8
from noria.kernel.error_table import row_of
from noria.kernel.errors import NoriaError
from noria.kernel.words import ago, day, duration, moment, number, percent, plural

__all__ = [
    "ExitCode",
    "ago",
    "day",
    "duration",
    "emit",
    "emit_error",
    "json_option",
    "moment",
    "number",
    "pairs",
    "percent",
    "plain",
    "plural",
    "section",
    "table",
]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


class ExitCode(IntEnum):
    """Exit codes, for CI jobs."""

    PASSED = 0  # success, or the verdict is yes
    NO = 1  # the verdict is no
    USAGE = 2  # wrong usage
    NOT_ENOUGH_DATA = 3  # not enough data for a verdict
    INFRASTRUCTURE = 4  # disk, ledger, server
    INTERRUPTED = 130  # Ctrl-C


def emit(as_json: bool, document: Mapping[str, Any] | Callable[[], Mapping[str, Any]], render: Callable[[], str]) -> None:
    """Print ``document`` as JSON, or what ``render`` says for people."""
    if as_json:
        click.echo(to_json(document() if callable(document) else document))
    else:
        click.echo(render().rstrip("\n"))


def to_json(document: Mapping[str, Any]) -> str:
    """One JSON document, indented; records and enums become plain values. Every character reaches a reader of any encoding."""
    return json.dumps(document, indent=2, ensure_ascii=not in_utf8(), default=str)


def emit_error(error: NoriaError, as_json: bool) -> None:
    """An error as text on standard error, or as one JSON document on standard output."""
    if as_json:
        click.echo(to_json({"error": error_facts(error)}))
        return
    place = f"{plain(error.where)}: " if error.where else ""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {place}{plain(error.message, lines=True)}", err=True)
    if error.hint:
        click.echo(click.style(f"  {plain(error.hint, lines=True)}", dim=True), err=True)


def error_facts(error: NoriaError) -> dict[str, Any]:
    """An error's stable keys: kind, message, where, hint, exit_code."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "where": error.where,
        "hint": error.hint,
        "exit_code": row_of(type(error)).exit_code,
    }


def plain(value: object, *, lines: bool = False) -> str:
    """Text that cannot drive a terminal: control characters go; newlines stay only where ``lines`` says so."""
    text = str(value)
    if not lines:
        text = " ".join(text.split())
    return "".join(c if c.isprintable() or (lines and c == "\n") else "\N{REPLACEMENT CHARACTER}" for c in text)


def cells_of(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def fill(text: str, width: int) -> str:
    """The text with spaces behind it, up to so many columns of a terminal."""
    return text + " " * (width - cells_of(text))


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns with two spaces between them; on a terminal the last column wraps, in a pipe every row is one line."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(cells_of(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    room = terminal_width() - sum(widths[:-1]) - 2 * (len(headers) - 1) if on_terminal() else 0
    lines = [click.style(_line(headers, widths), dim=True)]
    for row in cells:
        lines += _wrap_row(row, widths, room)
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(fill(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _wrap_row(row: Sequence[str], widths: Sequence[int], room: int) -> list[str]:
    if room < 20 or len(row[-1]) <= room:
        return [_line(row, widths)]
    first, *rest = textwrap.wrap(row[-1], room)
    indent = " " * (sum(widths[:-1]) + 2 * (len(widths) - 1))
    return [_line([*row[:-1], first], widths), *(indent + line for line in rest)]


def section(title: str, body: str) -> str:
    """A bold title and its indented body."""
    return f"{click.style(title, bold=True)}\n{textwrap.indent(body, '  ')}\n"


def pairs(items: Sequence[tuple[str, object]]) -> str:
    """``name  value`` lines, the values in one column and wrapped on a terminal."""
    width = max((cells_of(name) for name, _ in items), default=0)
    room = terminal_width() - width - 6 if on_terminal() else 0
    lines: list[str] = []
    for name, value in items:
        text = plain(value)
        first, *rest = textwrap.wrap(text, room) if room >= 20 and text else [text]
        lines.append(f"{click.style(fill(name, width), dim=True)}  {first}")
        lines += [" " * (width + 2) + more for more in rest]
    return "\n".join(lines)


def on_terminal() -> bool:
    """Whether a person watches standard output."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Columns, between 60 and 120."""
    return max(60, min(120, shutil.get_terminal_size((80, 24)).columns))
