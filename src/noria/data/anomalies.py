"""Holds a file that meets its contract against the files accepted before it: what is unusual, and what distributions moved."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from msgspec.structs import replace

from noria.data import judge_anomalies, judge_contract, judge_distribution, judge_repeats
from noria.data.batch_facts import BatchHistory, PastBatch
from noria.data.judge_contract import ContractRuling
from noria.data.promise import ContractBreach
from noria.kernel.contract import AnomalyRule, Contract, Severity
from noria.kernel.verdict import Outcome, Reason, combine

LAST_ROWS = 100_000  # of accepted files, with whose distributions a file is compared: the newest files by name, each whole


def hold(contract: Contract, table: pl.DataFrame, judged: ContractRuling, batch: BatchHistory) -> ContractRuling:
    """The ruling, with what is unusual as a warning, or as a reason to refuse; ``batch`` gets the file's facts."""
    rule = contract.anomalies or AnomalyRule()
    facts = judge_anomalies.measure(table)
    found = judge_anomalies.judge(facts, batch.history(), rule.false_alarm)
    batch.found, batch.measured = found, PastBatch(facts, found.outcome is Outcome.FAIL)
    answers = judge_distribution.judge(contract, table, lambda column: _last_values(batch, column))
    batch.distributions = tuple(one.reason for one in answers)
    told = [(found, rule.severity), *((one.reason, one.severity) for one in answers)]
    return _with_reasons(table, judged, [one for one in told if one[0].outcome is Outcome.FAIL])


def _with_reasons(table: pl.DataFrame, judged: ContractRuling, found: Sequence[tuple[Reason, Severity]]) -> ContractRuling:
    texts = [reason for reason, severity in found if severity is Severity.WARN]
    warnings = tuple(replace(one, text=f"warning: {one.text}", outcome=Outcome.PASS) for one in texts)
    breaches = [ContractBreach(reason) for reason, severity in found if severity is Severity.QUARANTINE]
    if breaches:
        return judge_contract.rule_on_breaches(table, breaches, warnings=(*judged.warnings, *warnings))
    if not warnings:
        return judged
    return replace(judged, verdict=combine((*judged.verdict.reasons, *warnings)), warnings=(*judged.warnings, *warnings))


def _last_values(batch: BatchHistory, column: str) -> pl.Series | None:
    """The values of a column in the last accepted rows."""
    files, parts, rows = batch.files(), list[pl.DataFrame](), 0
    for name in reversed(judge_repeats.by_age(files)):
        values = files[name](column)
        if values is not None:
            parts.append(values.alias("value").to_frame())
            rows += len(values)
        if rows >= LAST_ROWS:
            break
    return pl.concat(parts, how="vertical_relaxed").to_series() if parts else None
