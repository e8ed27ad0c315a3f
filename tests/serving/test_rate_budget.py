"""How often one caller may ask, against the definition of the budget: any schedule, any callers, two workers of one table."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.kernel.access import RateLimit
from noria.kernel.errors import ServingError
from noria.serving import rate_limits
from noria.serving.rate_limits import RateLimits

S = 1_000_000_000
gaps_ns = st.lists(st.integers(0, 3 * S), min_size=1, max_size=40)


@settings(max_examples=60)
@given(gaps=gaps_ns, most=st.integers(1, 5), workers=st.integers(1, 2))
def test_a_caller_gets_its_budget_and_what_grows_back(gaps: list[int], most: int, workers: int) -> None:
    """A bucket of ``most`` that fills by one each step; written in whole nanoseconds, as the table is."""
    rate = RateLimit(most, float(most))  # one each second
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "x.rates"
        rate_limits.create(path)
        tables = [RateLimits(path, rate) for _ in range(workers)]
        now, full_at = 10**15, 0
        for number, gap in enumerate(gaps):
            now += gap
            patch.setattr(rate_limits.time, "monotonic_ns", lambda now=now: now)
            wait = tables[number % workers].wait_s("anna")
            owed = max(0, full_at - now)  # time until the bucket is full
            if owed <= (most - 1) * S:
                assert wait == 0.0
                full_at = max(full_at, now) + S
            else:
                assert wait == pytest.approx((owed - (most - 1) * S) / S)
        for one in tables:
            one.close()


def test_callers_do_not_spend_each_other_s_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.rates"
    rate_limits.create(path)
    table = RateLimits(path, RateLimit(2, 60.0))
    monkeypatch.setattr(rate_limits.time, "monotonic_ns", lambda: 10**15)
    callers = [f"caller {n}" for n in range(200)]
    for _ in range(2):
        assert {table.wait_s(caller) for caller in callers} == {0.0}
    assert {round(table.wait_s(caller)) for caller in callers} == {30}
    table.close()


def test_a_table_that_is_gone_or_short_is_told(tmp_path: Path) -> None:
    for content in (None, b"short"):
        path = tmp_path / "x.rates"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ServingError, match="the rates cannot be opened") as told:
            RateLimits(path, RateLimit(1, 1.0))
        assert told.value.where == str(path)
