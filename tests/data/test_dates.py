"""Date columns: detection and encoding, compared with datetime and pandas."""

import datetime

import numpy as np
import pytest

from jaxdl.data.csv_dates import (
    FORMATS,
    date_columns,
    date_formats,
    date_names,
    days_of,
    describe_dates,
    first_misfit,
    read_date,
)

WRITTEN = {
    "year-month-day": "%Y-%m-%d",
    "year/month/day": "%Y/%m/%d",
    "day.month.year": "%d.%m.%Y",
    "month/day/year": "%m/%d/%Y",
    "day/month/year": "%d/%m/%Y",
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("clock", ["", " %H:%M", " %H:%M:%S", "T%H:%M:%S"])
def test_days_are_those_of_strptime(form, clock):
    rng = np.random.default_rng(0)
    for seconds in rng.integers(-(10**9), 3 * 10**9, 13):
        written = (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(seconds))).strftime(
            WRITTEN[form] + clock
        )
        expected = datetime.datetime.strptime(written, WRITTEN[form] + clock) - datetime.datetime(1970, 1, 1)
        assert read_date(written, form) == pytest.approx(expected / datetime.timedelta(days=1), abs=1e-9)


def test_what_is_a_date():
    assert date_formats(["2016-07-01T00:00:00Z", None, "2016-07-01 00:00:00.25+02:00"]) == ["year-month-day"]
    assert date_formats(["1949-01", "1949-02"]) == ["year-month-day"]
    assert date_formats(["01/02/2016", "03/04/2016"]) == ["month/day/year", "day/month/year"]
    assert date_formats(["01/02/2016", "13/04/2016"]) == ["day/month/year"]
    assert date_formats(["1.2.2016", "31.12.1999"]) == ["day.month.year"]
    for texts in (["2016-02-30"], ["2016-13-01"], ["2016-07-01 25:00"], ["2016-07-01", "soon"], ["20160701"], [None],
                  ["2016-07-01, noon"], ["0000-01-01"]):  # fmt: skip
        assert date_formats(texts) == []


def test_the_first_value_that_is_no_date_among_dates():
    assert first_misfit(["2016-01-01", None, "2016-02-30", "soon", "2016-01-03", "2016-01-04"]) == ("year-month-day", 2)
    assert first_misfit(["soon", "13/04/2016", "1/1/2016"]) == ("day/month/year", 0)
    for texts in (["a", "2016-01-01"], ["a", "b"], ["2016-01-01", None], [None], []):
        assert first_misfit(texts) is None


def test_columns_by_hand():
    texts = ["2019-01-01", "2020-07-02", None, "2021-01-01 06:00", "2019-01-03"]
    days = days_of(texts, "year-month-day")
    entry = describe_dates("d", days, "year-month-day")
    assert date_names(entry) == ["d.years", *(f"d.{c}_{w}" for c in ("year", "week", "day") for w in ("sin", "cos"))]
    x = date_columns(days, entry)
    # 2020 has 366 days, of which 183 have passed on 2 July; the median of the four dates is the second, a Thursday
    np.testing.assert_allclose(x[:, 0], [0, 1.5, 2 / 365, 2 + 0.25 / 365, 2 / 365], atol=1e-12)
    np.testing.assert_allclose(x[1, 1:3], [0, -1], atol=1e-12)
    of_week = np.array([1, 3, 3, 4, 3]) * 2 * np.pi / 7  # Tuesday, Thursday, ..., Friday
    np.testing.assert_allclose(x[:, 3:5], np.stack([np.sin(of_week), np.cos(of_week)], 1), atol=1e-12)
    np.testing.assert_allclose(x[3, 5:], [1, 0], atol=1e-12)


def test_against_pandas():
    pd = pytest.importorskip("pandas")
    dates = pd.Series(pd.date_range("1999-12-25 05:30", periods=97, freq="100h"))
    days = days_of([str(date) for date in dates], "year-month-day")
    x = date_columns(days, describe_dates("d", days, "year-month-day"))
    np.testing.assert_allclose(x[:, 4], np.cos(2 * np.pi * dates.dt.day_of_week / 7), atol=1e-9)
    np.testing.assert_allclose(x[:, 5], np.sin(2 * np.pi * (dates.dt.hour + dates.dt.minute / 60) / 24), atol=1e-9)
    length = 365 + dates.dt.is_leap_year
    part = (dates.dt.day_of_year - 1 + (dates.dt.hour + dates.dt.minute / 60) / 24) / length
    np.testing.assert_allclose(x[:, 1], np.sin(2 * np.pi * part), atol=1e-9)
    np.testing.assert_allclose(x[:, 0], dates.dt.year + part - (dates.dt.year + part)[0], atol=1e-9)


def test_constant_positions_get_no_column():
    for texts, cycles in (
        (["2001-01-01", "2002-01-01"], ["week"]),
        (["2001-01-01", "2007-01-01"], []),
        (["2001-01-01", "2001-01-08"], ["year"]),
        (["2001-01-01 01:00", "2001-01-01 02:00"], ["day"]),
    ):
        assert describe_dates("d", days_of(texts, "year-month-day"), "year-month-day")["cycles"] == cycles


def test_hours_over_many_years_differ_in_float32():
    days = days_of([f"2016-07-01 {hour:02d}:00" for hour in range(24)] + ["2026-01-01"], "year-month-day")
    x = date_columns(days, describe_dates("d", days, "year-month-day")).astype(np.float32)
    assert len(np.unique(x[:, 0])) == 25
