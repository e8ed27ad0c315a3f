"""A contract as the YAML that people edit."""

from __future__ import annotations

import json
from collections.abc import Iterable

from noria.cli.output import cells_of, fill, plain
from noria.cli.scalar import scalar
from noria.data.draft_contract import ContractDraft
from noria.kernel.contract import ColumnRule

COMMENT_AT = 80  # the column at which comments stand at the latest; longer lines have them behind


def column_text(rule: ColumnRule) -> str:
    """A column's rule as a mapping on one line."""
    parts = [f"type: {rule.type}"] if rule.type else []
    parts += [f"format: {json.dumps(rule.format)}"] if rule.format else []
    parts += [f"nulls: {_nulls(rule.nulls)}"] if rule.nulls < 1 else []
    if rule.low is not None or rule.high is not None:
        parts.append(f"range: [{_limit(rule.low)}, {_limit(rule.high)}]")
    if rule.values is not None:
        parts.append(f"values: [{', '.join(map(_value, rule.values))}]")
    parts += [f"pattern: {_value(rule.pattern)}"] if rule.pattern else []
    return "{" + ", ".join(parts) + "}"


def draft_text(draft: ContractDraft, drafted_from: str) -> str:
    """The whole file: every promise with what was seen behind it."""
    contract = draft.contract
    lines = [(f"  {scalar(one.rule.name)}: {column_text(one.rule)}", one.seen) for one in draft.columns]
    nameless = ("# no single column names a row; where several do together: unique: [A, B]", "")
    keys = [f"[{', '.join(map(scalar, key))}]" for key in contract.unique]
    unique = f"unique: {keys[0]}" if len(keys) == 1 else f"unique: [{', '.join(keys)}]"
    about_rows = [(unique, "")] if keys else [nameless]
    about_rows.append((f"rows: {{min: {contract.rows_min}}}", f"{draft.rows} seen"))
    return "\n".join(
        [
            f"# Drafted from {plain(drafted_from)}. Behind each promise stands what was seen. The promise has room",
            "# for more: a range has its whole span more on both sides, and empty cells may be twice as many and 5 points",
            "# more. A file that breaks a promise is refused whole. Make it yours.",
            "columns:" if lines else "columns: {}",
            *_commented(lines),
            *_commented(about_rows),
            "",
        ]
    )


def _commented(lines: Iterable[tuple[str, str]]) -> list[str]:
    """Each line with its comment; the comments in one column as far as the lines allow."""
    lines = list(lines)
    width = max((cells_of(line) for line, _ in lines if cells_of(line) < COMMENT_AT), default=0)
    return [f"{fill(line, width)}  # {plain(comment)}" if comment else line for line, comment in lines]


def _nulls(share: float) -> str:
    return f'"<= {share * 100:.10g}%"' if share else "never"


def _limit(value: float | None) -> str:
    return "null" if value is None else f"{value:.17g}" if float(f"{value:.12g}") != value else f"{value:.12g}"


def _value(text: str) -> str:
    """In quotes, so that it stays a text."""
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else scalar(text)
