"""The commits of the story: plain edits of the project's files, as a team would make them."""

from __future__ import annotations

import json

from noria.cli.demo.theatre import DemoStage

REQUEST = json.dumps(
    {
        "carrier": "UA",
        "origin": "EWR",
        "dest": "ORD",
        "weekday": 1,
        "hour": 17,
        "sched_minutes": 95,
        "distance": 719,
        "temp": 44.1,
        "dewp": 33.9,
        "humid": 67.0,
        "wind_speed": 12.7,
        "precip": 0.0,
        "visib": 10.0,
        "pressure": 1012.3,
    }
)

MUGGY = '''"""What the air feels like at the airport, from the dew point."""

import polars as pl

AIR = {-2: "arctic", -1: "arctic", 0: "bitter", 1: "very dry", 2: "dry", 3: "crisp", 4: "pleasant", 5: "fresh", 6: "close"}


def build(inputs: pl.DataFrame) -> pl.DataFrame:
    """Adds the feel of the air, a band of ten degrees of dew point."""
    band = (pl.col("dewp") // 10).cast(pl.Int64)
    return inputs.with_columns(air=band.replace_strict(AIR))
'''


def failing_tests(theatre: DemoStage) -> None:
    """Somebody changes what "late" means and not the tests."""
    theatre.edit("delays/table.py", "LATE_MINUTES = 15", "LATE_MINUTES = 30")
    theatre.commit("Half an hour is what passengers call late")


def worse_model(theatre: DemoStage) -> None:
    """Somebody thinks the hour of departure is noise."""
    theatre.edit("noria.yaml", "weekday, hour, sched_minutes", "weekday, sched_minutes")
    theatre.commit("Drop the hour: the weather says it all")


def muggy(theatre: DemoStage) -> None:
    """A feature by lookup that knows no dew point of 70 degrees: New York's first comes late in June."""
    (theatre.home / "delays" / "air.py").write_text(MUGGY)
    theatre.edit("noria.yaml", '  train: "delays.model:train"', '  features: "delays.air:build"\n  train: "delays.model:train"')
    theatre.commit("Tell the model what the air feels like")
