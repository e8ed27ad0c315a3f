"""The monitor's findings: quality per window, drift per column, alerts."""

from __future__ import annotations

import msgspec


class Window(msgspec.Struct, frozen=True):
    """Quality of one release in one window of the project clock, from labels that came in."""

    project: str
    environment: str
    release: str
    start: float
    end: float
    metric: str  # brier, log_loss or absolute_error: a mean of per-row losses
    predictions: int
    labelled: int  # that it was judged by: those of windows before it too, where it is too short to decide alone
    value: float
    reference: float  # the release's own holdout evaluation
    p_value: float  # one-sided: the window is no worse than the reference
    drift_score: float = 0.0  # the worst column's
    drift_column: str = ""


class Alert(msgspec.Struct, frozen=True):
    id: str
    project: str
    kind: str  # quality, drift
    release: str
    text: str
    at: float
    trigger_id: str | None = None
