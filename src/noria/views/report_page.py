"""A report as one HTML file: style and figures are inside, nothing is loaded, nothing runs."""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from noria.kernel import words
from noria.kernel.names import short
from noria.kernel.verdict import Outcome
from noria.views import report_figures, report_words
from noria.views.report_records import Report

HERE = Path(__file__).parent / "templates"


def render(report: Report) -> str:
    style = (HERE / "report.css").read_text()
    return (
        _templates()
        .get_template("report.html")
        .render(
            report=report,
            drawn=report_figures.figures(report),
            matrices=report_figures.matrices(report),
            wholes={metric.name: metric.candidate.value for metric in report.metrics},
            style=Markup(style),  # noqa: S704  # a file of ours
            style_hash=Markup(base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()),  # noqa: S704  # letters, digits, + / =
            nan=math.nan,
        )
    )


def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"moment": words.moment, "plural": words.plural, "short": short, "css": _css}
    made.globals |= {"words": report_words, "figures": report_figures}
    return made


def _css(outcome: Outcome | None) -> str:
    """The class of an outcome."""
    return str(outcome).replace(" ", "-") if outcome is not None else "quiet"
