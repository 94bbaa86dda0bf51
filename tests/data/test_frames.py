"""Tables in memory are encoded like the same rows in a file."""

import json
import re

import numpy as np
import pytest

from jaxdl.data import DataError, Reading, columns_of, encode_columns, encode_csv, read_csv

TRAIN = """\
when,size,kind,price
2016-07-01 00:00:00,1.5,red,1
2016-07-02 13:00:00,2.25,blue,2
2016-08-05 01:00:00,,red,3
2017-08-05 01:00:00,4,,4
"""
ROWS = [
    {"when": "2018-01-01", "size": 0.1, "kind": "blue"},
    {"when": "2018-01-02 07:00", "size": None, "kind": "Salmon"},
    {"when": None, "size": float("nan"), "kind": None},
]


@pytest.fixture
def schema(tmp_path):
    (tmp_path / "train.csv").write_text(TRAIN)
    return json.loads(json.dumps(read_csv(tmp_path / "train.csv", target="price").schema))


@pytest.fixture
def expected(tmp_path, schema):
    lines = [",".join(ROWS[0]), *(",".join("NA" if v is None else str(v) for v in row.values()) for row in ROWS)]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    return encode_csv(tmp_path / "new.csv", schema)


def read(table, schema):
    return encode_columns(columns_of(table, schema), schema, target=False)


def test_rows_columns_and_arrays(schema, expected):
    assert expected.x.shape == (3, 7 + 1 + 3)
    columns = {name: [row[name] for row in ROWS] for name in reversed(ROWS[0])}
    array = np.array([list(row.values()) for row in ROWS], object)
    for table in (ROWS, columns, array, columns | {"price": ["?", 1, 2]}):
        found = read(table, schema)
        np.testing.assert_array_equal(found.x, expected.x)
        assert found.x.dtype == np.float32
        assert found.notes == expected.notes
        assert re.match("kind: 1 x 'Salmon'", found.notes[0])
        assert len(found.notes) == 1
    for one in (
        ROWS[1],
        [ROWS[1]],
        array[1],
        {"when": np.datetime64("2018-01-02T07:00"), "kind": "Salmon", "size": None},
    ):
        np.testing.assert_array_equal(read(one, schema).x, expected.x[1:2])
    np.testing.assert_array_equal(read([ROWS[0], {"when": None, "kind": None}], schema).x, expected.x[[0, 2]])


def test_a_frame_is_its_file(tmp_path, schema):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "Id": np.arange(97),
            "size": rng.normal(size=97).astype(np.float32),
            "kind": pd.Categorical(rng.choice(["red", "blue", "pink"], 97)),
            "when": pd.date_range("2015-03-04", periods=97, freq="1003h"),
        }
    )
    frame.loc[5, "size"], frame.loc[7, "when"] = np.nan, pd.NaT
    frame["kind"] = frame["kind"].astype("string")
    frame.loc[11, "kind"] = pd.NA
    frame.to_csv(tmp_path / "frame.csv", index=False)
    found, file = read(frame, schema), encode_csv(tmp_path / "frame.csv", schema)
    np.testing.assert_array_equal(found.x, file.x)
    assert found.notes == file.notes
    assert found.notes[0].endswith(": Id")
    assert len(np.unique(found.x[:, 7])) == 97
    frame["size"] = pd.array([3, pd.NA] + [1] * 95, dtype="Int64")
    assert read(frame, schema).x[:3, 7].tolist() == [3, 2.25, 1]


def test_numbers_where_the_file_had_decimal_commas(tmp_path):
    (tmp_path / "t.csv").write_text("a;y\n2,5;1\n3;2\n")
    schema = read_csv(tmp_path / "t.csv", target="y", reading=Reading(decimal="comma")).schema
    assert read({"a": [1.25, "1,25", 3]}, schema).x.tolist() == [[1.25], [1.25], [3]]


WRONG = {
    "a column is missing": ({"when": ["2016-01-01"], "kinds": ["red"], "size": [1]}, ".*'kind'.* 'kinds'"),
    "another case": ({"When": ["2016-01-01"], "kind": ["red"], "size": [1]}, ".*'when'.* 'When'"),
    "a text for a number": ({"when": ["2016-01-01"], "kind": ["red"], "size": ["big"]}, "row 1: column 'size': 'big'"),
    "a text for a date": ({"when": ["soon"], "kind": ["red"], "size": [1]}, "row 1: column 'when': 'soon'"),
    "other lengths": ({"when": ["2016-01-01"] * 2, "kind": ["red"], "size": [1]}, r".*\[1, 2\] rows"),
    "a row and a column": ({"when": "2016-01-01", "kind": ["red"], "size": 1}, ".*one value"),
    "an array of another width": (np.zeros((5, 2)), r".*\(5, 2\).* 3 input columns when, size, kind"),
    "a number": (3.0, ".*float"),
    "no rows": ({"when": [], "kind": [], "size": []}, ".*no rows"),
    "an empty list": ([], ".*list"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables(schema, name):
    table, message = WRONG[name]
    with pytest.raises(DataError, match=f"^the table: {message}") as caught:
        read(table, schema)
    assert "\n" not in str(caught.value)
