"""Holds a file that meets its contract against the files accepted before it."""

from __future__ import annotations

import polars as pl
from msgspec.structs import replace

from noria.data import judge_anomalies, judge_contract
from noria.data.batch_facts import BatchHistory, PastBatch
from noria.data.judge_contract import ContractRuling
from noria.data.promise import ContractBreach
from noria.kernel.contract import AnomalyRule, Contract, Severity
from noria.kernel.verdict import Outcome, combine


def hold(contract: Contract, table: pl.DataFrame, judged: ContractRuling, batch: BatchHistory) -> ContractRuling:
    """The ruling, with what is unusual as a warning, or as a reason to refuse; ``batch`` gets the file's facts."""
    rule = contract.anomalies or AnomalyRule()
    facts = judge_anomalies.measure(table)
    found = judge_anomalies.judge(facts, batch.history(), rule.false_alarm)
    batch.found, batch.measured = found, PastBatch(facts, found.outcome is Outcome.FAIL)
    if found.outcome is not Outcome.FAIL:
        return judged
    if rule.severity is Severity.QUARANTINE:
        return judge_contract.rule_on_breaches(table, [ContractBreach(found)], warnings=judged.warnings)
    warning = replace(found, text=f"warning: {found.text}", outcome=Outcome.PASS)
    return replace(judged, verdict=combine((*judged.verdict.reasons, warning)), warnings=(*judged.warnings, warning))
