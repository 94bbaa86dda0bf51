"""Date columns: recognized, parsed, and encoded as a trend and as positions in the year, the week and the day."""

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TIME = r"(?:(?:T| +)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
FORMATS = {
    name: re.compile(date + TIME)
    for name, date in (
        ("year-month-day", r"(?P<year>\d{4})-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2}))?"),
        ("year/month/day", r"(?P<year>\d{4})/(?P<month>\d{1,2})/(?P<day>\d{1,2})"),
        ("day.month.year", r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})"),
        ("month/day/year", r"(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})"),
        ("day/month/year", r"(?P<day>\d{1,2})/(?P<month>\d{1,2})/(?P<year>\d{4})"),
    )
}
ISO = "year-month-day"
CYCLES = ("year", "week", "day")  # each encoded as sine and cosine
EPOCH = datetime.datetime(1970, 1, 1)


def read_date(text: str, form: str) -> float | None:
    """Returns days since 1970-01-01 00:00 in the written local time, without its time zone; None: not a date."""
    found = FORMATS[form].fullmatch(text)
    if found is None:
        return None
    year, month, day = int(found["year"]), int(found["month"]), int(found["day"] or 1)
    try:
        clock = (int(found["hour"] or 0), int(found["minute"] or 0), int(found["second"] or 0))
        return (datetime.datetime(year, month, day, *clock) - EPOCH).total_seconds() / 86400
    except ValueError:
        return None


def date_formats(values: Sequence[str | None]) -> list[str]:
    """Returns the formats, keys of FORMATS, in which each value that is not missing is a date; [] if there are none."""
    formats = list(FORMATS)
    for value in values:
        if value is not None:
            formats = [form for form in formats if read_date(value, form) is not None]
        if not formats:
            break
    return formats if any(value is not None for value in values) else []


def first_misfit(values: Sequence[str | None]) -> tuple[str, int] | None:
    """Returns (format, index of the first value that is not a date in it) if most values, but not all, are dates."""
    there = [(i, value) for i, value in enumerate(values) if value is not None]
    wrong = {form: [i for i, value in there if read_date(value, form) is None] for form in FORMATS}
    form = min(FORMATS, key=lambda form: len(wrong[form]))
    return (form, wrong[form][0]) if 0 < 2 * len(wrong[form]) < len(there) else None


def days_of(values: Sequence[str | None], form: str) -> np.ndarray:
    """Returns days since 1970-01-01, float64 [N]; NaN where a value is missing or no date, in this format or ISO's."""

    def read(value: str | None) -> float:
        for one in (form, ISO):
            if value is not None and (days := read_date(value, one)) is not None:
                return days
        return np.nan

    return np.array([read(value) for value in values], np.float64)


def describe_dates(name: str, days: np.ndarray, form: str) -> dict[str, Any]:
    """Returns the schema entry of a date column with at least one date: see `date_columns`.

    A cycle is kept if the position in it varies between rows: dates without hours have no time of day.
    """
    there = np.sort(days[~np.isnan(days)])
    _, of_year, weekday, hours = _places(there)
    varies = {"year": of_year, "week": weekday, "day": hours}
    return {
        "name": name,
        "kind": "date",
        "format": form,
        "origin": float(there[0]),
        "median": float(there[(len(there) - 1) // 2]),
        "cycles": [cycle for cycle in CYCLES if len(np.unique(varies[cycle])) > 1],
    }


def date_names(entry: Mapping[str, Any]) -> list[str]:
    """Returns the names of the columns that encode a date column."""
    waves = [f"{entry['name']}.{cycle}_{wave}" for cycle in entry["cycles"] for wave in ("sin", "cos")]
    return [f"{entry['name']}.years", *waves]


def date_columns(days: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    """Encodes days since 1970-01-01, float64 [N], as numbers [N, 1 + 2 x cycles]; NaN is replaced with the median.

    The numbers are the years since the first training date, and the sine and cosine of 2 pi times the elapsed part of
    the year, of the week (in whole days, from Monday) and of the day.
    """
    days = np.where(np.isnan(days), entry["median"], days)
    years, _, weekday, hours = _places(days)
    parts = {"year": years % 1, "week": weekday / 7, "day": hours}
    columns = [years - _places(np.array([entry["origin"]]))[0]]
    for cycle in entry["cycles"]:
        columns += [np.sin(2 * np.pi * parts[cycle]), np.cos(2 * np.pi * parts[cycle])]
    return np.stack(columns, axis=1)


def _places(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns fractional years, month and day as one number, days since Monday, the elapsed part of the day."""
    whole = np.floor(days)
    dates = np.datetime64("1970-01-01", "D") + whole.astype(np.int64)
    year, month = dates.astype("datetime64[Y]"), dates.astype("datetime64[M]")
    first, after = (one.astype("datetime64[D]").astype(np.int64) for one in (year, year + 1))
    years = 1970 + year.astype(np.int64) + (days - first) / (after - first)
    of_year = (month - year.astype("datetime64[M]")).astype(np.int64) * 32 + (dates - month).astype(np.int64)
    return years, of_year, (whole + 3) % 7, days - whole
