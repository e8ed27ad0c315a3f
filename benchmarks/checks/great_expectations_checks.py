"""The checks of benchmarks/contracts.py by Great Expectations on pandas."""

import sys

import great_expectations as gx
import great_expectations.expectations as gxe

RANGES = {"id": (0, 1 << 40), "amount": (0, 1e6), "paid": (0, 1e6), "count": (0, 1000), "share": (0, 1)}
COLUMNS = ("id", "at", "carrier", "origin", "amount", "paid", "count", "code", "share", "flag")

context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
batch = context.data_sources.pandas_default.read_parquet(sys.argv[1])
suite = gx.ExpectationSuite(
    name="bench",
    expectations=[
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in COLUMNS),
        *(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high) for name, (low, high) in RANGES.items()),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnValuesToBeInSet(column="carrier", value_set=["AA", "BB", "CC", "DD", "EE"]),
        gxe.ExpectColumnValuesToMatchRegex(column="origin", regex=r"^[A-Z]{3}$"),
        gxe.ExpectColumnValueLengthsToEqual(column="code", value=6),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="amount", column_B="paid", or_equal=True),
    ],
)
found = batch.validate(suite)
assert len(found.results) == 20
assert not any(each.exception_info.get("raised_exception") for each in found.results)
print([each.expectation_config.type for each in found.results if not each.success] or "ok")
sys.exit(0 if found.success else 1)
