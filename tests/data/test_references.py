"""`references`: values of a column must stand in a column of another dataset's accepted rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import inner_noria
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria import config
from noria.config import DataSource
from noria.data import arrivals, files, judge_contract
from noria.data.judge_contract import ContractRuling
from noria.data.referenced_rows import ReferencedRows
from noria.data.referenced_values import ReferencedColumn, ReferencedValues
from noria.data.snapshot import Delivery
from noria.data.store import DataStore
from noria.engine import assembly
from noria.engine.trigger_watcher import TriggerWatcher
from noria.kernel.contract import ColumnReference, Contract, Severity
from noria.kernel.errors import ConfigError
from noria.kernel.trigger import TriggerKind
from noria.pipeline import check
from noria.pipeline.context import StartedRun
from noria.pipeline.trigger_store import TriggerStore
from noria.pipeline.turn_store import TurnStore

CUSTOMER = ColumnReference("customer", "customers", "id")
NO_CUSTOMER = "customer: 1 of 2 rows have a value that customers.id does not have"


def judged(column: pl.Series, values: pl.Series | None, contract: Contract | None = None, problem: str = "") -> ContractRuling:
    known = ReferencedValues("orders", {CUSTOMER: ReferencedColumn(values, problem)})
    told = contract or Contract(references=(CUSTOMER,))
    return judge_contract.judge(told, column.alias("customer").to_frame(), now=None, referenced=known)


VALUES = st.one_of(st.integers(-3, 3), st.none())


@given(st.lists(VALUES, min_size=1), st.lists(VALUES), st.sampled_from([pl.Int64, pl.Float64, pl.Int8, pl.Decimal(10, 2)]))
def test_the_rows_that_fail_are_those_that_sets_name(
    column: list[int | None], known: list[int | None], kind: pl.DataType
) -> None:
    found = judged(pl.Series(column, dtype=pl.Int64), pl.Series(known, dtype=pl.Int64).cast(kind))
    bad = [value is not None and value not in set(known) for value in column]
    assert found.failing_rows == sum(bad)
    assert (found.mask.to_list() if found.mask is not None else [False] * len(column)) == bad
    assert found.verdict.passed is not any(bad)


@pytest.mark.parametrize(
    ("column", "known", "failing"),
    [
        (pl.Series([1.0, 1.5, float("nan"), None]), pl.Series([1, 2]), 1),
        (pl.Series([1, 2]), pl.Series([1.5, 2.0, float("nan")]), 1),
        (pl.Series([2.0**53]), pl.Series([2**53 + 1]), 1),  # the double nearest to it is another number
        (pl.Series([300]), pl.Series([44], dtype=pl.Int8), 1),  # 300 is 44 in eight bits
        (pl.Series([44], dtype=pl.Int8), pl.Series([300]), 1),
        (pl.Series([Decimal("0.10")]), pl.Series([0.1]), 0),
        (pl.Series([Decimal("0.1")]), pl.Series([Decimal("0.10"), Decimal("0.11")]), 0),
        (pl.Series(["a", "A", None]), pl.Series(["a"], dtype=pl.Categorical), 1),
        (pl.Series([date(2026, 1, 1)]), pl.Series([date(2026, 1, 2)]), 1),
        (pl.Series([True, False]), pl.Series([True]), 1),
        (
            pl.Series([datetime(2026, 1, 1, tzinfo=UTC)], dtype=pl.Datetime("ms", "UTC")),
            pl.Series([datetime(2026, 1, 1, tzinfo=UTC)], dtype=pl.Datetime("us", "UTC")),
            0,
        ),
        (pl.Series([None, None]), pl.Series(["a"]), 0),
        (pl.Series([1]), pl.Series([None]), 1),
        (pl.Series([1]), pl.Series([], dtype=pl.Int64), 1),
    ],
)
def test_values_are_equal_where_they_are_exactly_the_same(column: pl.Series, known: pl.Series, failing: int) -> None:
    assert judged(column, known).failing_rows == failing


@pytest.mark.parametrize(
    ("column", "known", "words"),
    [
        (pl.Series([1]), pl.Series(["1"]), "the file has int, and customers.id has string"),
        (pl.Series(["1"]), pl.Series([1.0]), "the file has string, and customers.id has float"),
        (pl.Series([date(2026, 1, 1)]), pl.Series([datetime(2026, 1, 1)]), "the file has date, and customers.id has datetime"),
        (pl.Series([True]), pl.Series([1]), "the file has bool, and customers.id has int"),
        (pl.Series([[1]]), pl.Series([[1]]), "the file has list(int), and customers.id has list(int)"),
    ],
)
def test_another_kind_of_value_is_a_reason_of_the_file(column: pl.Series, known: pl.Series, words: str) -> None:
    found = judged(column, known)
    assert [(one.code, one.rows) for one in found.reasons] == [("contract.references", None)]
    assert f"customer cannot refer to customers.id: {words}" in found.verdict.sentence()


def test_what_is_not_there_is_said_where_a_row_needs_it() -> None:
    found = judged(pl.Series([1, None]), None, problem="customers has no accepted file yet")
    assert [(one.text, one.rows) for one in found.reasons] == [
        ("customer refers to customers.id: customers has no accepted file yet", None)
    ]
    assert judged(pl.Series([None, None], dtype=pl.Int64), None, problem="customers has no accepted file yet").verdict.passed
    told = judged(pl.Series([1, 5]), pl.Series([1]), Contract(references=(CUSTOMER,), severity=Severity.WARN))
    assert told.verdict.passed
    assert [one.text for one in told.warnings] == [f"warning: {NO_CUSTOMER}"]
    without = judge_contract.judge(Contract(references=(CUSTOMER,)), pl.DataFrame({"customer": [1]}), now=None)
    assert without.verdict.passed, "nobody asked"
    missing = judge_contract.judge(Contract(references=(CUSTOMER,)), pl.DataFrame({"x": [1]}), now=None)
    assert missing.verdict.sentence() == "column customer is missing"


def test_a_row_may_name_another_of_its_own_file() -> None:
    boss = ColumnReference("boss", "people", "id")
    table = pl.DataFrame({"id": [1, 2, 3], "boss": [None, 1, 9]})
    known = ReferencedValues("people", {boss: ReferencedColumn(problem="people has no accepted file yet")})
    found = judge_contract.judge(Contract(references=(boss,)), table, now=None, referenced=known)
    assert found.failing["id"].to_list() == [3]
    known = ReferencedValues("people", {boss: ReferencedColumn(pl.Series([9]))})
    assert judge_contract.judge(Contract(references=(boss,)), table, now=None, referenced=known).verdict.passed


# --- in a project

PROJECT = """\
project: shop
data:
  orders: {source: "orders/*.csv", contract: orders.yaml, settle: 1ms}
  customers: {source: "customers/*.csv", contract: customers.yaml, settle: 1ms}
"""


class Shop:
    """Orders that refer to customers, which noria.yaml names behind them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.write("noria.yaml", PROJECT)
        self.write("customers.yaml", "unique: [id]\n")
        self.write("orders.yaml", "columns: {n: int}\nreferences: {customer: customers.id}\n")
        self.context = assembly.assemble(home, state=home / ".noria")

    def write(self, name: str, text: str) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def put(self, name: str, *rows: str) -> None:
        heads = {"orders": "n,customer", "customers": "id,name", "people": "id,boss"}
        self.write(f"{name}.csv", "\n".join([heads[name.partition("/")[0]], *rows, ""]))

    def take(self) -> list[tuple[str, bool, str]]:
        """What one turn judged, in that order."""
        project = config.load(self.home)
        before = len(self.deliveries())
        found = arrivals.take_in(self.context, project, patient=all((self.home / name).is_dir() for name in project.data))
        TriggerStore.of(self.context).add(TriggerKind.MANUAL, "now")
        turn = TurnStore.of(self.context).start()
        assert turn is not None
        run = StartedRun(turn, "run", project, self.home, None, None, {}, arrivals=tuple(found))
        check.data(self.context, run)
        made = self.deliveries()[before:]
        return [(one.name.removesuffix(".csv"), one.accepted, one.reason) for one in made]

    def deliveries(self) -> list[Delivery]:
        return DataStore.of(self.context).deliveries(1000)[::-1]


def waiting(shop: Shop, watcher: TriggerWatcher) -> int:
    """How many triggers a look makes, once no file may still be written to."""
    for path in shop.home.glob("*/*.csv"):
        deadline = time.monotonic() + 30
        while not files.is_settled(path, 0.001):
            assert time.monotonic() < deadline
    return watcher.data(config.load(shop.home))


def command(shop: Shop, code: int, *arguments: str) -> str:
    """What a command prints, which ends with this code."""
    found, out, error = inner_noria.noria(shop.home, *arguments)
    assert found == code, out + error
    return out


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.context.executor.close()
    made.context.ledger.close()


def test_what_is_referred_to_is_judged_first(shop: Shop) -> None:
    shop.put("orders/a", "1,7", "2,8")
    shop.put("customers/a", "7,Ada")
    assert shop.take() == [("customers/a", True, "1 rows meet the contract"), ("orders/a", False, NO_CUSTOMER)]
    refused = shop.deliveries()[-1]
    assert (refused.failing_rows, [(one.code, one.rows) for one in refused.reasons]) == (1, [("contract.references", 1)])
    assert shop.take() == [], "nothing changed"


def test_a_refused_file_is_judged_again_when_the_other_dataset_has_other_files(shop: Shop) -> None:
    shop.put("customers/a", "7,Ada")
    shop.put("orders/a", "1,7")
    shop.put("orders/b", "1,7", "2,8")
    shop.put("orders/c", "x,7")
    watcher = TriggerWatcher(shop.context)
    assert waiting(shop, watcher) == 4
    assert [one[:2] for one in shop.take()] == [
        ("customers/a", True), ("orders/a", True), ("orders/b", False), ("orders/c", False),
    ]  # fmt: skip
    assert waiting(shop, watcher) == 0
    shop.put("customers/b", "8,Bob")
    assert waiting(shop, watcher) == 1, "the orders wait for the customers"
    assert shop.take() == [
        ("customers/b", True, "1 rows meet the contract"), ("orders/b", True, "2 rows meet the contract"),
    ], "in the same turn, and neither what was accepted nor what has another fault"  # fmt: skip
    assert waiting(shop, watcher) == 0


def test_a_file_that_waits_starts_a_turn_when_rows_come_otherwise(shop: Shop) -> None:
    """As by a release from quarantine, which no arrival tells of."""
    shop.put("customers/a", "7,Ada", "7,Ada")
    shop.put("orders/a", "1,7")
    assert [one[1] for one in shop.take()] == [False, False]
    assert shop.deliveries()[-1].reason == "customer refers to customers.id: customers has no accepted file yet"
    watcher = TriggerWatcher(shop.context)
    assert waiting(shop, watcher) == 0
    delivery = shop.deliveries()[0]
    command(shop, 0, "data", "quarantine", "release", delivery.id, "--why", "twins")
    assert waiting(shop, watcher) == 1
    assert waiting(shop, watcher) == 0, "once"
    assert shop.take() == [("orders/a", True, "1 rows meet the contract")]


def test_good_rows_are_accepted_without_those_that_refer_to_nothing(shop: Shop) -> None:
    shop.write("orders.yaml", "references: {customer: customers.id}\ndrop_rows: {at_most: 50%}\n")
    shop.put("customers/a", "7,Ada")
    shop.put("orders/a", "1,7", "2,8")
    assert shop.take()[1] == (
        "orders/a", True, f"1 rows meet the contract; 1 of 2 rows (50 %) were dropped: {NO_CUSTOMER}",
    )  # fmt: skip


def test_rows_that_refer_to_dropped_rows_are_dropped_with_them(shop: Shop) -> None:
    shop.write("noria.yaml", 'project: shop\ndata: {people: {source: "people/*.csv", contract: p.yaml, settle: 1ms}}\n')
    shop.write("p.yaml", "unique: [id]\nreferences: {boss: people.id}\ndrop_rows: {at_most: 90%}\n")
    shop.put("people/a", "1,", "2,1", "3,9", "4,3", "5,4", "5,1", "6,2")
    ((_, accepted, reason),) = shop.take()
    assert accepted
    assert reason.startswith("4 rows meet the contract; 3 of 7 rows (42.9 %) were dropped: boss: 1 of 7 rows have a value that")
    assert DataStore.of(shop.context).accepted_files("people")["people/a.csv"].rows == 4  # 1, 2, the second 5, 6
    shop.write("p.yaml", "references: {boss: people.id}\ndrop_rows: {at_most: 40%}\n")
    shop.put("people/a", "1,", "3,9", "4,3", "5,4")
    ((_, accepted, reason),) = shop.take()
    assert not accepted
    assert reason.endswith("2 of 4 rows (50 %) fail; drop_rows allows at most 40 %")
    shop.write("p.yaml", "references: {boss: people.id}\ndrop_rows: {at_most: 90%}\n")
    shop.put("people/a", *(f"{at},{at - 1}" for at in range(1, 30)), *(f"{at},{at}" for at in range(50, 99)))
    assert shop.take()[0][2].endswith("rows refer to rows that fail, over more than 20 others")


def test_a_column_that_is_not_there_and_one_of_another_kind(shop: Shop) -> None:
    shop.put("customers/a", "7,Ada")
    shop.put("orders/a", "1,Ada")
    shop.write("orders.yaml", "references: {customer: customers.nick}\n")
    assert shop.take()[1][2] == "customer refers to customers.nick: customers has no column nick"
    shop.write("orders.yaml", "references: {customer: customers.id}\n")
    assert shop.take()[0][2].startswith("customer cannot refer to customers.id: the file has string, and customers.id has int")


def test_rows_that_refer_to_rows_of_their_dataset(shop: Shop) -> None:
    shop.write("noria.yaml", 'project: shop\ndata: {people: {source: "people/*.csv", contract: p.yaml, settle: 1ms}}\n')
    shop.write("p.yaml", "references: {boss: people.id}\n")
    shop.put("people/a", "3,2")
    shop.put("people/b", "2,1")
    shop.put("people/c", "1,")
    shop.put("people/d", "4,9")
    shown = command(shop, 1, "check")
    assert shown.count("FAIL") == 1
    assert "people/d.csv: boss: 1 of 1 row have a value" in shown
    shop.take()
    assert set(DataStore.of(shop.context).accepted_files("people")) == {"people/a.csv", "people/b.csv", "people/c.csv"}
    assert shop.take() == []


def test_a_dataset_that_is_gone_is_a_reason(shop: Shop) -> None:
    """As where a contract in force is older than noria.yaml."""
    source = config.load(shop.home).data["orders"]
    values = ReferencedRows(shop.context, {"orders": source}, source).beside("orders/a.csv")
    assert values is not None
    assert values.columns[CUSTOMER] == ReferencedColumn(problem="noria.yaml has no dataset customers")


def test_hashed_columns_refer_to_each_other(shop: Shop) -> None:
    shop.write("customers.yaml", "unique: [id]\npersonal_data: {hash: [id]}\n")
    shop.write("orders.yaml", "references: {customer: customers.id}\npersonal_data: {hash: [customer]}\n")
    shop.put("customers/a", "7,Ada")
    shop.put("orders/a", "1,7", "2,8")
    shop.put("orders/b", "1,7")
    assert [one[::2] for one in shop.take()][1:] == [("orders/a", NO_CUSTOMER), ("orders/b", "1 rows meet the contract")]


def test_check_judges_as_the_turn_will(shop: Shop) -> None:
    shop.put("customers/a", "7,Ada")
    shop.put("orders/a", "1,7", "2,8")
    shown = command(shop, 1, "check")
    assert f"orders/a.csv: {NO_CUSTOMER}" in shown
    assert shown.index("orders/a.csv") < shown.index("customers/a.csv"), "in the order of noria.yaml"
    shop.put("customers/b", "8,Bob")
    command(shop, 0, "check")
    shop.take()
    (shop.home / "customers/b.csv").unlink()
    shop.put("orders/b", "1,8")
    command(shop, 0, "check")  # what was accepted stands
    told = command(shop, 0, "data", "check", "orders/b.csv", "--contract", "orders.yaml")
    assert "references are not judged, since they are to rows of a project (customer to customers.id)" in told


@pytest.mark.parametrize(
    ("orders", "customers", "words"),
    [
        ("references: {customer: client.id}", "", "customer refers to client.id, and noria.yaml has no dataset 'client'"),
        ("references: {customer: pictures.id}", "", "pictures has no columns: its files are stored as they are"),
        ("references: {customer: served.id}", "", "served is served predictions"),
        ("references: {customer: orders.customer}", "", "which is itself"),
        ("references: {customer: customers.id}", "references: {id: orders.n}", "circle: orders -> customers -> orders"),
        (
            "columns: {customer: int}\nreferences: {customer: customers.id}", "columns: {id: string}",
            "and customer is a int, while customers.id is a string",
        ),
        ("columns: {customer: list(int)}\nreferences: {customer: customers.id}", "", "and customer is a list(int)"),
        ("references: {customer: customers.id}", "personal_data: {hash: [id]}", "customers.id is hashed before a file is judged"),
        ("references: {customer: customers.id}\npersonal_data: {hash: [customer]}", "", "and customer is hashed before a file"),
        ("references: {customer: customers.id}", "personal_data: {drop: [id]}", "which customers.yaml drops before"),
        ("references: {customer: customers.id}\npersonal_data: {drop: [customer]}", "", "customer is dropped before the file"),
        ("references: {customer: customers}", "", "expected DATASET.COLUMN, found"),
        ("references: {customer: Customers.id}", "", "expected DATASET.COLUMN, found"),
        ("references: {customer: 7}", "", "expected DATASET.COLUMN, found"),
        ("references: [customer]", "", "expected a mapping of columns to DATASET.COLUMN, found"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_an_error_of_the_project(tmp_path: Path, orders: str, customers: str, words: str) -> None:
    extra = "  pictures: {source: pictures, format: files}\n  served: {source: 'log:production'}\n"
    (tmp_path / "noria.yaml").write_text(PROJECT + extra)
    (tmp_path / "orders.yaml").write_text(orders)
    (tmp_path / "customers.yaml").write_text(customers)
    with pytest.raises(ConfigError) as raised:
        config.load(tmp_path)
    assert words in raised.value.message
    assert raised.value.where is not None
    assert raised.value.hint or "dropped" in words or "expected" in words


def test_two_number_types_may_refer_to_each_other(tmp_path: Path) -> None:
    (tmp_path / "noria.yaml").write_text(PROJECT)
    (tmp_path / "orders.yaml").write_text("columns: {customer: float}\nreferences: {customer: customers.the id.x}")
    (tmp_path / "customers.yaml").write_text("columns: {the id.x: int}")
    assert config.load(tmp_path).data["orders"].references == (ColumnReference("customer", "customers", "the id.x"),)


@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=6))
def test_datasets_stand_behind_what_they_refer_to(references: list[list[int]]) -> None:
    """Of any references: each dataset once, and behind all others where nothing goes in a circle."""
    data = {
        f"d{at}": DataSource(f"d{at}", "x", Contract(references=tuple(ColumnReference("c", f"d{to}", "k") for to in others)))
        for at, others in enumerate(references)
    }
    order = config.referenced_first(data)
    assert sorted(order) == sorted(data)
    graph = {name: {one.dataset for one in source.references} & set(data) - {name} for name, source in data.items()}
    with contextlib.suppress(CycleError):
        TopologicalSorter(graph).prepare()
        assert all(order.index(before) < order.index(name) for name, others in graph.items() for before in others)
