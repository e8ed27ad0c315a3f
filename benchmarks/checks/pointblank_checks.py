"""The checks of benchmarks/contracts.py by pointblank on Polars."""

import sys

import pointblank as pb
import polars as pl

RANGES = {"id": (0, 1 << 40), "amount": (0, 1e6), "paid": (0, 1e6), "count": (0, 1000), "share": (0, 1)}

table = pl.read_parquet(sys.argv[1])
checks = pb.Validate(table).col_vals_not_null(columns=table.columns)
for name, (low, high) in RANGES.items():
    checks = checks.col_vals_between(columns=name, left=low, right=high)
checks = (
    checks.rows_distinct(columns_subset=["id"])
    .col_vals_in_set(columns="carrier", set=["AA", "BB", "CC", "DD", "EE"])
    .col_vals_regex(columns="origin", pattern=r"^[A-Z]{3}$")
    .col_vals_expr(expr=pl.col("code").str.len_chars() == 6)
    .col_vals_expr(expr=pl.col("amount") >= pl.col("paid"))
    .interrogate(collect_extracts=False)
)
assert len(checks.validation_info) == 20
good = checks.all_passed()
print("ok" if good else "broken")
sys.exit(0 if good else 1)
