"""The checks of benchmarks/contracts.py by Pandera on Polars."""

import sys

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

between, one_of, matches = pa.Check.in_range, pa.Check.isin, pa.Check.str_matches
rule = pa.Check(lambda data: data.lazyframe.select(pl.col("amount") >= pl.col("paid")))
schema = pa.DataFrameSchema(
    {
        "id": pa.Column(pl.Int64, between(0, 1 << 40), unique=True),
        "at": pa.Column(pl.Datetime("us")),
        "carrier": pa.Column(pl.String, one_of(["AA", "BB", "CC", "DD", "EE"])),
        "origin": pa.Column(pl.String, matches(r"^[A-Z]{3}$")),
        "amount": pa.Column(pl.Float64, between(0, 1e6)),
        "paid": pa.Column(pl.Float64, between(0, 1e6)),
        "count": pa.Column(pl.Int64, between(0, 1000)),
        "code": pa.Column(pl.String, pa.Check.str_length(6, 6)),
        "share": pa.Column(pl.Float64, between(0, 1)),
        "flag": pa.Column(pl.Boolean),
    },
    checks=rule,
)
try:
    schema.validate(pl.read_parquet(sys.argv[1]), lazy=True)
except SchemaErrors as error:
    print(error.failure_cases.select("column", "check").unique())
    sys.exit(1)
print("ok")
