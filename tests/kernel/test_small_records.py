"""The small records that every room shares: verdicts, workers, access, and the names that modules had before."""

from __future__ import annotations

import importlib
import ipaddress
import itertools
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.kernel import former_modules
from noria.kernel.access import KEPT_OPEN, is_loopback
from noria.kernel.verdict import Outcome, Reason, combine
from noria.kernel.workers import MOST, TWO, Workers

REASONS = st.lists(st.builds(Reason, code=st.just("x"), text=st.text(max_size=5), outcome=st.sampled_from(Outcome)), max_size=6)
SEVERITY = {Outcome.PASS: 0, Outcome.NOT_ENOUGH_DATA: 1, Outcome.FAIL: 2}


@given(reasons=REASONS, seed=st.randoms())
def test_a_verdict_is_its_worst_reason_in_any_order(reasons: list[Reason], seed: object) -> None:
    verdict = combine(tuple(reasons))
    assert SEVERITY[verdict.outcome] == max((SEVERITY[reason.outcome] for reason in reasons), default=0)
    assert verdict.passed is (verdict.outcome is Outcome.PASS)
    for order in itertools.islice(itertools.permutations(reasons), 5):
        assert combine(order).outcome is verdict.outcome


@given(reasons=REASONS, more=REASONS)
def test_more_reasons_never_make_a_verdict_better(reasons: list[Reason], more: list[Reason]) -> None:
    assert SEVERITY[combine((*reasons, *more)).outcome] >= SEVERITY[combine(tuple(reasons)).outcome]


@given(reasons=REASONS)
def test_a_sentence_holds_what_decided_and_nothing_else(reasons: list[Reason]) -> None:
    verdict = combine(tuple(reasons))
    deciding = [reason.text for reason in reasons if reason.outcome is verdict.outcome]
    assert verdict.sentence() == ("; ".join(deciding) if reasons else "pass")


@given(st.integers(1, MOST), st.integers(1, MOST))
def test_workers_read_back(one: int, other: int) -> None:
    workers = Workers(min(one, other), max(one, other))
    assert Workers.of(str(workers)) == workers
    assert Workers.of(f"{workers.least}..{workers.most}") == workers
    assert workers.fixed is (one == other)
    assert (":" in str(workers)) is not workers.fixed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0:1",
        "2:1",
        "1:",
        ":2",
        "1..",
        "1:2:3",
        "-1",
        "1.5",
        "1:65",
        "65",
        "x",
        "1:x",
        "1 : 2",
        "²",
        "1:²",
        "1e1",
        "1:..2",
    ],
)
def test_what_is_no_number_of_workers(text: str) -> None:
    with pytest.raises(ValueError):
        Workers.of(text)


def test_two_unless_told_otherwise() -> None:
    assert TWO == Workers() == Workers.of("2")


@pytest.mark.parametrize(
    "host",
    ["localhost", "::1", "127.0.0.1", "127.255.255.254", "::ffff:127.0.0.1", "10.0.0.1", "0.0.0.0",
     "192.168.1.1", "128.0.0.1", "::", "fe80::1"],
)  # fmt: skip
def test_loopback_is_what_the_standard_library_calls_so(host: str) -> None:
    address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    mapped = getattr(address, "ipv4_mapped", None)
    assert is_loopback(host) is (mapped or address).is_loopback


@pytest.mark.parametrize("host", ["", "localhost.evil.example", "12.7.0.0", "1127.0.0.1", "::2", "LOCALHOST.", "ffff:127.0.0.1"])
def test_no_other_name_is_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_what_stays_open_asks_no_model() -> None:
    assert all(path.startswith("/") and "predict" not in path and "infer" not in path for path in KEPT_OPEN)


@pytest.mark.parametrize("former", sorted(former_modules.FORMER))
def test_a_module_is_found_by_its_former_name_and_is_the_same_one(former: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a class that was pickled under one name would not be the class that code asks for."""
    former_modules.install()
    for name in [*former_modules.PACKAGES, former]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = importlib.import_module(former)
    assert found is importlib.import_module(former_modules.FORMER[former])


def test_an_object_pickled_under_the_former_name_is_read() -> None:
    former_modules.install()
    from noria.models.signature import Signature

    blob = pickle.dumps(Signature).replace(b"noria.models.signature", b"noria.domain.signature")
    assert pickle.loads(blob) is Signature


def test_other_names_stay_unknown_and_the_finder_stands_once_and_last() -> None:
    former_modules.install()
    former_modules.install()
    assert sys.meta_path.count(former_modules.FormerModules) == 1
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("noria.domain.nothing")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("noria.nothing")
