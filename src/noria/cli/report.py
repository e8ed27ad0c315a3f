"""`noria report [REF]`: shows the report of an evaluated candidate, or writes it to a file."""

from __future__ import annotations

import tempfile
import webbrowser
from contextlib import closing
from pathlib import Path

import click

from noria.cli import report_text
from noria.cli.context import Home, pass_home
from noria.cli.lazy_group import LazyGroup
from noria.cli.output import to_json
from noria.kernel.errors import UsageError
from noria.storage.blobs import BlobStore
from noria.storage.disk import write_whole
from noria.views import report as view
from noria.views import report_markdown, report_page
from noria.views.comparison import Archive
from noria.views.report_records import Report

FORMATS = ("terminal", "json", "markdown", "html")
SUFFIXES = {".json": "json", ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".txt": "terminal"}
SHOW = "show"  # what `noria report` does where no command of the group is named
OTHERS = {"gates": ("noria.cli.report_gates:command", "Show how often each gate fired, missed or cost a release.")}


class ReportGroup(LazyGroup):
    """`noria report v8` is `noria report show v8`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.lines() and args[0] not in ctx.help_option_names):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


@click.group(cls=ReportGroup, lazy=OTHERS)
def command() -> None:
    """Show the report of an evaluated candidate, passed or failed: `noria report REF` is `noria report show REF`.

    \b
    Example:  noria report
              noria report v8
              noria report 7 --format markdown
              noria report v8 --into v8.html --open
    """


@command.command(SHOW)
@click.argument("ref", required=False)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="How it is written; by default as FILE's suffix says, or terminal."
)
@click.option("--into", type=click.Path(path_type=Path), metavar="FILE", help="Write it to FILE instead of printing it.")
@click.option("--open", "opened", is_flag=True, help="Write it as one HTML file and open that in the browser.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@pass_home
def show(home: Home, ref: str | None, form: str | None, into: Path | None, opened: bool, as_json: bool) -> None:
    """Show the report of one candidate, or write it to a file.

    REF is a release (v8), a turn (7), a run (or the beginning of its id), an environment (what serves there), or `latest`;
    without REF, the report is of the newest evaluation.

    The verdict stands first, with every gate and what would change it; then what changed since the champion, metrics with bounds
    beside the champion's, curves, slices by harm, the data, and where all of it came from. The HTML file holds everything: it
    opens without network, on a phone, in the dark and on paper.

    \b
    Example:  noria report show v8
              noria report v8
              noria report 7 --format markdown
              noria report v8 --into v8.html --open
              noria report --format json | jq .metrics

    JSON keys: project, name, outcome (pass, fail, not enough data; null before the gates), headline, why, remedies,
    afterwards, decisions, gates [{code, gate, metric, outcome, text, value, numbers, remedy}], champion, champion_note,
    environment, changes (as `noria diff --json` has it; null without a champion), changes_note, metrics [{name, candidate
    {value, low, high, n, positives}, champion, difference, low, high, verdict, greater_is_better, gated}], curves (as
    `evidence/curves.json` of a release; null where none were recorded), curves_note, slices [{column, value, metric, measure,
    behind, shown_behind}], data [{dataset, digest, files, rows}], holdout, rows, positives, latency_p50_ms, latency_p99_ms,
    latency_rounds_ms, model_size_mb, remarks, unmeasured, step_metrics, lineage [{name, value}], at, ref, looks {looks,
    budget, rows, fresh_rows, repeated} (at the holdout; null where they were not counted), behaviours [{name, says,
    outcome, rows, failing, allow, text, examples}]. A number that could not be measured is null.
    """
    form = choose_format(form, into, opened, as_json)
    with closing(home.existing_ledger()) as ledger:
        archive = Archive(ledger, BlobStore(home.state / "blobs"), home.project_name(), home.path, home.state)
        found = view.read_report(archive, ref)
    text = render(found, form)
    if into is None and not opened:
        click.echo(text.rstrip("\n"))
        return
    into = into if into is not None else Path(tempfile.mkdtemp(prefix="noria-report-")) / f"{names_file(found.name)}.html"
    write_whole(into, click.unstyle(text).encode())
    click.echo(f"{into}: the report of {found.name}", err=as_json)
    if opened and not webbrowser.open(into.resolve().as_uri()):
        click.echo("no browser could be opened here: open that file yourself", err=True)


def choose_format(form: str | None, into: Path | None, opened: bool, as_json: bool) -> str:
    """What is asked for, by the options or by FILE's suffix. Raises UsageError where they contradict each other."""
    asked = {form, *(["json"] if as_json else []), *(["html"] if opened else [])} - {None}
    if len(asked) > 1:
        raise UsageError("--open needs --format html" if opened else f"--json and --format {form} ask for two formats")
    if asked:
        return str(asked.pop())
    if into is None:
        return "terminal"
    if into.suffix.lower() not in SUFFIXES:
        raise UsageError(f"the suffix of {into} does not tell a format", hint=f"Add --format: {', '.join(FORMATS)}.")
    return SUFFIXES[into.suffix.lower()]


def render(report: Report, form: str) -> str:
    if form == "json":
        return to_json(report.document())
    if form == "markdown":
        return report_markdown.render(report)
    if form == "html":
        return report_page.render(report)
    return report_text.render(report)


def names_file(name: str) -> str:
    """A name as part of a file's."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
