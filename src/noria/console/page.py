"""The status page: templates, the two static files, and the page for those without a token."""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from noria.console import chart
from noria.delivery.rollout_record import evidence_words
from noria.engine.offered_actions import offered_actions
from noria.evaluation.records import sort_gated_first
from noria.kernel import words
from noria.kernel.names import short
from noria.pipeline.turn_record import TurnOutcome
from noria.views import rollout_steps
from noria.views.status import StatusView

HERE = Path(__file__).parent
TONES = {  # the colour class of an outcome
    TurnOutcome.PROMOTED: "good",
    TurnOutcome.DONE: "good",
    TurnOutcome.RELEASED: "good",
    TurnOutcome.RUNNING: "busy",
    TurnOutcome.ROLLING_OUT: "busy",
    TurnOutcome.NOTHING_CHANGED: "quiet",
    TurnOutcome.SUPERSEDED: "quiet",
    TurnOutcome.HELD: "warn",
    TurnOutcome.NOT_ENOUGH_DATA: "warn",
    TurnOutcome.NOT_RELEASED: "warn",
}
LOCKED_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:32rem;margin:18vh auto;padding:0 1.5rem;color:#16323a;background:#f4f8f8}"
    "code{background:#dfeaea;padding:.1em .4em;border-radius:4px}"
    "@media(prefers-color-scheme:dark){body{color:#d6e6e8;background:#0d181b}code{background:#1e3036}}"
)
LOCKED_STYLE_HASH = base64.b64encode(hashlib.sha256(LOCKED_STYLE.encode()).digest()).decode()
LOCKED = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Noria: token needed</title><style>{LOCKED_STYLE}</style></head>
<body><h1>This page needs the token</h1>
<p>Run <code>noria status</code> in the project's folder: it shows the full address to open here.</p>
<p>The token is kept in the file <code>token</code> in the state folder (<code>.noria</code>, or where
<code>NORIA_HOME</code> says), readable by its owner only.</p></body></html>
"""
STATIC = {
    "console.css": ((HERE / "static" / "console.css").read_bytes(), "text/css"),
    "console.js": ((HERE / "static" / "console.js").read_bytes(), "text/javascript"),
    "wheel.svg": ((HERE / "static" / "wheel.svg").read_bytes(), "image/svg+xml"),
}


def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": words.ago,
        "day": words.day,
        "duration": words.duration,
        "moment": words.moment,
        "number": words.number,
        "percent": words.percent,
        "plural": words.plural,
        "short": short,
        "colour": chart.colour,
        "codes": rollout_steps.codes,
        "told": evidence_words,
        "gated_first": sort_gated_first,
        "known": render_number,
    }
    made.globals |= {"tone": tone, "chart": chart.quality_chart, "judged": chart.labelled_windows, "sank": chart.sank}
    made.globals |= {
        "bar": rollout_steps.bar,
        "cleared": rollout_steps.guard_summary,
        "headline": rollout_steps.headline,
        "plan": rollout_steps.plan,
        "traffic": rollout_steps.traffic,
    }
    made.globals |= {"offered_actions": offered_actions, "rollout_tones": rollout_steps.TONES, "verdicts": VERDICTS}
    return made


def render_number(value: float | None) -> str:
    """A number that may not be defined: null, or no number."""
    return words.number(value) if value is not None and not math.isnan(value) else "not defined"


VERDICTS = {"pass": "good", "fail": "bad"}  # else: not enough data


def tone(outcome: TurnOutcome) -> str:
    """The colour of an outcome: good, busy, quiet, warn, or bad."""
    return TONES.get(outcome, "bad")


TEMPLATES = _templates()


def render(view: StatusView) -> str:
    """The whole page."""
    return TEMPLATES.get_template("page.html").render(view=view)


def render_fragment(view: StatusView) -> str:
    """The part that changes, as the page's script fetches it."""
    return TEMPLATES.get_template("fragment.html").render(view=view)


def locked_page() -> str:
    """The page for someone without the token."""
    return LOCKED
