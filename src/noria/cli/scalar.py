"""Texts in YAML that is written for people."""

from __future__ import annotations

import math

import yaml


def scalar(text: str) -> str:
    """A YAML scalar of one line that is read as this text, also inside a flow list."""
    style = None if text.isprintable() else '"'  # the one style in which line breaks and the like can be written on one line
    made = yaml.safe_dump([text], default_flow_style=True, default_style=style, allow_unicode=True, width=math.inf)
    return str(made).strip()[1:-1]
