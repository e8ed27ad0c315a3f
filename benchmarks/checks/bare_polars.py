"""The checks of benchmarks/contracts.py as one query of Polars, without any library for contracts."""

import sys

import polars as pl

RANGES = {"id": (0, 1 << 40), "amount": (0, 1e6), "paid": (0, 1e6), "count": (0, 1000), "share": (0, 1)}

rows = pl.scan_parquet(sys.argv[1])
nulls = {f"{name} null": pl.col(name).null_count() for name in rows.collect_schema()}
ranges = {f"{name} range": (~pl.col(name).is_between(*bounds)).sum() for name, bounds in RANGES.items()}
found = rows.select(
    **nulls,
    **ranges,
    repeated=pl.len() - pl.col("id").n_unique(),
    carrier=(~pl.col("carrier").is_in(["AA", "BB", "CC", "DD", "EE"])).sum(),
    origin=(~pl.col("origin").str.contains(r"\A[A-Z]{3}\z")).sum(),
    code=(pl.col("code").str.len_chars() != 6).sum(),
    rule=(~(pl.col("amount") >= pl.col("paid"))).sum(),
).collect()
assert found.width == 20
broken = {name: count for name, count in found.row(0, named=True).items() if count}
print(broken or "ok")
sys.exit(1 if broken else 0)
