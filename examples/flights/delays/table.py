"""The labelled table: one row a scheduled flight, with what is known before it leaves."""

import polars as pl

LATE_MINUTES = 15
TEXT = ["carrier", "origin", "dest"]
PLAN = ["weekday", "hour", "sched_minutes", "distance"]
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "visib", "pressure"]
INPUTS = [*TEXT, *PLAN, *WEATHER]


def departures(flights: pl.DataFrame, weather: pl.DataFrame, served: pl.DataFrame | None = None) -> pl.DataFrame:
    """The flights whose arrival delay is known: key, event time, inputs and label, in order of time.

    - ``flight_id`` is the key: date, carrier, number, origin and scheduled local time ("2013-01-01-UA-1545-EWR-0515").
    - ``time_hour`` is the event time: the scheduled hour of departure, in UTC.
    - ``late`` is the label: 1 when the flight arrived more than 15 minutes late.

    Two kinds of flights have no arrival delay and are left out: *cancelled* ones (no departure time) and
    *diverted* ones (they left, and landed elsewhere or without a recorded delay). The model thus answers
    "if it flies as planned, will it be late?".

    The weather is that of the origin at the scheduled hour; a flight without a weather record stays, with nulls.

    ``served`` holds predictions which the model server logged, joined with their labels (columns ``key``,
    ``event_time``, ``label`` and the inputs). A flight which is also in the files is taken from the files.
    """
    landed = flights.filter(pl.col("dep_time").is_not_null() & pl.col("arr_delay").is_not_null())
    table = requests(landed, weather)
    if served is not None and served.height:
        new = served.rename({"key": "flight_id", "event_time": "time_hour", "label": "late"})
        new = _shape(new.filter(pl.col("late").is_not_null()).unique("flight_id", keep="last", maintain_order=True))
        table = pl.concat([table, new.join(flights_of(flights), on="flight_id", how="anti")])
    return table.sort("time_hour", "flight_id")


def requests(flights: pl.DataFrame, weather: pl.DataFrame) -> pl.DataFrame:
    """Scheduled flights as a client asks for them: key, event time, inputs; ``late`` is null without an arrival delay."""
    at_origin = weather.select("origin", "time_hour", *WEATHER).unique(["origin", "time_hour"], keep="last", maintain_order=True)
    table = describe(flights).join(at_origin, on=["origin", "time_hour"], how="left", maintain_order="left")
    return _shape(table.with_columns(late=pl.col("arr_delay") > LATE_MINUTES))


def describe(flights: pl.DataFrame) -> pl.DataFrame:
    """Adds to scheduled flights their key and the inputs that the timetable tells (all but the weather)."""

    def minute_of_day(clock: str) -> pl.Expr:
        return pl.col(clock) // 100 * 60 + pl.col(clock) % 100

    return flights.with_columns(
        flight_id=_flight_id(),
        weekday=pl.date("year", "month", "day").dt.weekday(),
        # From clock to clock: the difference of the two airports' time zones is in it.
        sched_minutes=(minute_of_day("sched_arr_time") - minute_of_day("sched_dep_time")) % 1440,
    )


def flights_of(flights: pl.DataFrame) -> pl.DataFrame:
    """The keys of all flights in the files, cancelled and diverted ones among them."""
    return flights.select(flight_id=_flight_id())


def _flight_id() -> pl.Expr:
    def digits(column: str, width: int) -> pl.Expr:
        return pl.col(column).cast(pl.String).str.zfill(width)

    day = pl.concat_str(digits("year", 4), digits("month", 2), digits("day", 2), separator="-")
    return pl.concat_str(day, "carrier", pl.col("flight").cast(pl.String), "origin", digits("sched_dep_time", 4), separator="-")


def _shape(table: pl.DataFrame) -> pl.DataFrame:
    """The table's columns, in their order and types.

    Two decimals: the weather was converted from Celsius, which left numbers like 39.019999999999996 beside 39.02. A tree
    could split between them, and its compiled form, which computes in 32 bits, could not.
    """
    return table.select(
        pl.col("flight_id").cast(pl.String),
        pl.col("time_hour").cast(pl.Datetime("us", "UTC")),
        pl.col(TEXT).cast(pl.String),
        pl.col([*PLAN, *WEATHER]).cast(pl.Float64).round(2),
        pl.col("late").cast(pl.Int8),
    )
