"""Tables: CSV files in common formats, broken files, the sets by name, and standardisation."""

import gzip
import json
import re
import shlex
import time

import numpy as np
import pytest
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from jaxdl.data import TABLES, DataError, MissingData, Reading, columns_named, load_table, read_csv, standardize
from jaxdl.data.csv_columns import read_columns
from jaxdl.data.csv_schema import column_names
from jaxdl.data.tables import column_scales, encode_csv

GOOD = """\
size,colour,"weight, kg",price
1,red,2.5,10
2,blue,,20.5
,red,-1e1,30
4,green,7,-4
"""


def write(tmp_path, content: str | bytes, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def check(table):
    """Checks the numbers of GOOD, computed by hand: medians 2 of (1, 2, 4) and 2.5 of (2.5, -10, 7)."""
    assert table.columns == ("size", "colour=blue", "colour=green", "colour=red", "weight, kg")
    assert table.x.tolist() == [[1, 0, 0, 1, 2.5], [2, 1, 0, 0, 2.5], [2, 0, 0, 1, -10], [4, 0, 1, 0, 7]]
    assert table.y.tolist() == [10, 20.5, 30, -4]
    assert (table.x.dtype, table.y.dtype) == (np.float32, np.float32)
    assert (table.target, table.names) == ("price", ())


WRITINGS = {
    "plain": GOOD.encode(),
    "byte-order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "CRLF": GOOD.replace("\n", "\r\n").encode(),
    "both": b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(),
    "no last line end": GOOD.rstrip("\n").encode(),
    "blank lines": GOOD.replace("\n", "\n\n").encode(),
    "blanks around": GOOD.replace("red", " red ").encode(),
    "gzip": gzip.compress(GOOD.encode()),
    "semicolons": b'"size";"colour";"weight, kg";"price"\n1;red;2.5;10\n2;blue;;20.5\n;red;-10;30\n4;green;7;-4',
    "tabs": GOOD.replace('"weight, kg"', "W").replace(",", "\t").replace("W", "weight, kg").encode(),
}


@pytest.mark.parametrize("name", WRITINGS)
def test_formats_of_one_table(tmp_path, name):
    check(read_csv(write(tmp_path, WRITINGS[name]), target="price"))


@pytest.mark.parametrize("missing", ["", "NA", "na", "NaN", "nan", "?", " ? "])
def test_missing_values(tmp_path, missing):
    table = read_csv(
        write(tmp_path, GOOD.replace("blue,,", f"blue,{missing},").replace("\n,red", f"\n{missing},red")),
        target="price",
    )
    check(table)
    assert re.search("size: 1 missing.* median 2; ", table.note)
    assert re.search("weight, kg: 1 missing.* median 2.5", table.note)


def test_missing_text_is_a_category(tmp_path):
    table = read_csv(write(tmp_path, GOOD.replace("green", "?")), target="price")
    assert table.columns[1:4] == ("colour=blue", "colour=missing", "colour=red")
    assert table.x[3, 1:4].tolist() == [0, 1, 0]
    assert re.search("colour: 3 categories.* 1 missing", table.note)


def test_note_lists_decisions(tmp_path):
    path = write(tmp_path, GOOD)
    table = read_csv(path, target="price", drop=["size"])
    assert table.columns == ("colour=blue", "colour=green", "colour=red", "weight, kg")
    assert re.match(
        f"{path}: 4 rows, 2 input columns .*4; target price; colour: 3 categories.*; "
        "weight, kg: 1 missing.* median 2.5; dropped columns: size$",
        table.note,
    )


def test_text_target_becomes_classes(tmp_path):
    table = read_csv(write(tmp_path, GOOD), target="colour")
    assert table.names == ("blue", "green", "red")
    assert table.y.tolist() == [2, 0, 2, 1]
    assert table.y.dtype == np.int32
    assert re.search("target colour .*3 classes", table.note)


def test_whole_numbers_as_classes(tmp_path):
    path = write(tmp_path, "a,label\n1,10\n2,-3\n3,2\n4,10.0\n")
    table = read_csv(path, target="label", classification=True)
    assert table.names == ("-3", "2", "10")
    assert table.y.tolist() == [2, 0, 1, 2]
    assert read_csv(path, target="label").y.tolist() == [10, -3, 2, 10]


def test_quoted_fields(tmp_path):
    table = read_csv(write(tmp_path, 'name,y\n"a, ""b""\nc",1\n"d",2\n'), target="y")
    assert table.columns == ('name=a, "b"\nc', "name=d")


def complaint(path) -> str:
    """Returns the reader's DataError as text, or ""; any other exception fails the test."""
    try:
        table = read_csv(path, target="price")
    except DataError as e:
        return str(e)
    assert np.isfinite(table.x).all()
    assert np.isfinite(table.y).all()
    return ""


def rows(text: str) -> str:
    return "a,b,y\n" + "1,2,3\n" * 5 + text + "\n4,5,6\n"


BROKEN = {  # content, arguments, what the message names
    "empty": (b"", {}, "empty"),
    "only a mark": (b"\xef\xbb\xbf", {}, "no text"),
    "blank lines": ("\n\n", {}, "no text"),
    "header only": ("a,b,y\n", {}, "header", "no rows"),
    "no header": ("1,2,3\n4,5,6\n", {}, "line 1", "1, 2, 3, ...", "--no_header"),
    "a column without name": ("a,,y\n1,2,3\n", {}, "line 1", "column 2"),
    "a name over two lines": ('a,"b\nc",y\n1,2,3\n', {}, "line 1", "'b\\nc'"),
    "no target": (rows("1,2,3"), {"target": ""}, "--target", "a, b, y"),
    "a name twice": ("a,y,a\n1,2,3\n", {}, "line 1", "'a'"),
    "a field short": (rows("1,2"), {}, "line 7", "2 fields", "3", "--separator"),
    "a field more": (rows("1,2,3,4"), {}, "line 7", "4 fields", "3"),
    "another separator inside": (rows("1;2;3"), {}, "line 7", "1 fields"),
    "open quotes": (rows('"1,2,3'), {}, "line 8", "unexpected end of data"),
    "text behind quotes": (rows('"1"x,2,3'), {}, "line 7"),
    "no target at all": ("a,y\n1,\n2,?\n", {}, "'y'", "--target"),
    "target unknown": (rows("1,2,3"), {"target": "Y2"}, "'Y2'", "'y'?", "a, b, y"),
    "the only column": ("a;b;y\n1;2;3\n", {"reading": Reading("comma")}, "'y'", "a;b;y", "--separator"),
    "dropped column unknown": (rows("1,2,3"), {"drop": ["bb"]}, "'bb'", "'b'?"),
    "target dropped": (rows("1,2,3"), {"drop": ["y"]}, "'y'", "--target", "--drop"),
    "everything dropped": (rows("1,2,3"), {"drop": ["a", "b"]}, "input column", "'y'"),
    "text among numbers": (rows("1,2x,3"), {}, "line 7", "'b'", "'2x'"),
    "text among targets": (rows("1,2,3x"), {}, "line 7", "'y'", "'3x'"),
    "number with underscore": (rows("1_0,2,3"), {}, "line 7", "'a'", "'1_0'"),
    "infinite": (rows("inf,2,3"), {}, "line 7", "'a'", "'inf'", "finite"),
    "too large": (rows("1e39,2,3"), {}, "line 7", "'a'", "'1e39'", "finite"),
    "nan that is not missing": (rows("1,2,nan"), {"missing": ["?"]}, "line 7", "'y'", "'nan'", "finite"),
    "text as regression": ("a,y\n1,u\n2,v\n", {"classification": False}, "line 2", "'y'", "'u'"),
    "fractions as classes": (rows("1,2,3.5"), {"classification": True}, "line 7", "'y'", "3.5"),
    "one class": ("a,y\n1,u\n2,u\n", {}, "'y'", "'u'"),
    "an empty column": ("a,y\n,1\n?,2\n", {}, "'a'", "--drop=a"),
    "an empty column among others": ("a,b,y\n,1,1\n?,2,2\n", {"drop": ["b"]}, "'a'", "--drop=b,a"),
    "too many categories": (
        "a,y\n" + "".join(f"t{i},1\n" for i in range(51)), {}, "50", "'a'", "51", "'t0'", "--drop=a",
    ),
    "decimal commas": ("a;y\n;1\n2,5;1\n3,5;2\n", {}, "line 3", "'a'", "'2,5'", "--decimal=comma"),
    "not UTF-8": (rows("1,ü,3").encode("latin-1"), {}, "UTF-8", "line 7, byte 38 (0xfc)"),
    "not UTF-8 behind a mark": (b"\xef\xbb\xbf" + rows("1,ü,3").encode("latin-1"), {}, "UTF-8", "line 7, byte 41"),
    "UTF-16": (rows("1,2,3").encode("utf-16"), {}, "UTF-8", "line 1, byte 0"),
    "zero bytes": (rows("1,\0,3"), {}, "line 7", "zero byte"),
    "broken gzip": (gzip.compress(rows("1,2,3").encode())[:-9], {}, "gzip"),
    "binary": (bytes(range(128, 256)), {}, "UTF-8", "line 1, byte 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_name_the_line(tmp_path, name):
    content, arguments, *named = BROKEN[name]
    path = write(tmp_path, content)
    with pytest.raises(DataError) as e:
        read_csv(path, **{"target": "y", **arguments})
    said = str(e.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    for word in named:
        assert word in said.removeprefix(f"{path}: "), word


@pytest.mark.parametrize("bad", ["2016-13-01", "soon"])
def test_a_broken_date_among_many_names_its_line(tmp_path, bad):
    lines = [f"{bad if i == 6 else f'20{i:02d}-03-04'},car {i},{i}" for i in range(70)]
    path = write(tmp_path, "\n".join(["when,name,y", *lines]))
    with pytest.raises(DataError, match=rf"'when' .*line 8 .*'{bad}'.*'name'.*--drop=when,name$"):
        read_csv(path, target="y")
    path = write(tmp_path, "\n".join(["when,name,y", *lines]).replace(bad, ""))
    assert read_csv(path, target="y", drop=["name"]).columns[0] == "when.years"


def test_flipped_bytes_are_refused_or_read_never_worse(tmp_path):
    rng, content = np.random.default_rng(0), GOOD.encode()
    for at, change in zip(rng.integers(0, len(content), 300), rng.integers(1, 256, 300), strict=True):
        path = write(tmp_path, content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
        assert "\n" not in complaint(path)


def test_a_folder_and_nothing_in_its_place(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: .*folder"):
        read_csv(tmp_path, target="y")
    with pytest.raises(MissingData, match=f"{tmp_path}/nothing.csv: "):
        read_csv(tmp_path / "nothing.csv", target="y")


def again(tmp_path, content, schema, **options):
    """Reads `content` with a schema after a round trip through JSON."""
    return encode_csv(write(tmp_path, content, "again.csv"), json.loads(json.dumps(schema)), **options)[:2]


@pytest.mark.parametrize("target", ["price", "colour"])
@pytest.mark.parametrize("name", WRITINGS)
def test_the_same_file_by_its_schema(tmp_path, name, target):
    table = read_csv(write(tmp_path, WRITINGS[name]), target=target)
    x, y = again(tmp_path, WRITINGS[name], table.schema)
    np.testing.assert_array_equal(x, table.x)
    np.testing.assert_array_equal(y, table.y)
    assert (x.dtype, y.dtype) == (table.x.dtype, table.y.dtype)
    assert column_names(table.schema) == table.columns


def test_another_file_gets_the_medians_and_categories_of_the_first(tmp_path):
    schema = read_csv(write(tmp_path, GOOD), target="price").schema
    other = '"weight, kg"\tcolour\tsize\n?\tred\t100\n3\tblue\t\n'  # no target, another order and separator
    x, y = again(tmp_path, other, schema)
    assert x.tolist() == [[100, 0, 0, 1, 2.5], [2, 1, 0, 0, 3]]
    assert y is None


def test_the_target_can_be_ignored(tmp_path):
    schema = read_csv(write(tmp_path, GOOD), target="colour").schema
    other = 'size,colour,"weight, kg",price\n1,,2,3\n2,pink,3,4\n'
    x, y = again(tmp_path, other, schema, target=False)
    assert x.tolist() == [[1, 2, 3], [2, 3, 4]]
    assert y is None


def test_whole_number_classes_and_dropped_columns_by_the_schema(tmp_path):
    content = "a,id,label\n1,u,10\n2,v,-3\n3,w,2\n"
    schema = read_csv(write(tmp_path, content), target="label", classification=True, drop=["id"]).schema
    for other in ("a,label\n5,2.0\n6,10\n", "id,label,a\nq,2,5\nr,10,6\n"):
        x, y = again(tmp_path, other, schema)
        assert x.tolist() == [[5], [6]]
        assert y.tolist() == [1, 2]


def test_missing_text_by_the_schema(tmp_path):
    schema = read_csv(write(tmp_path, "a,y\nu,1\n?,2\n"), target="y").schema
    assert again(tmp_path, "a\nNA\nu\n", schema)[0].tolist() == [[1, 0], [0, 1]]


MISFITS = {
    "a column is missing": ("colour,size\nred,1\n", "'weight, kg'", "colour, size"),
    "a column is misspelled": ('colour,sizes,"weight, kg"\nred,1,2\n', "'size'", "rename 'sizes'"),
    "text for a number": ('colour,size,"weight, kg"\nred,big,2\n', "line 2", "'size'", "'big'"),
    "a header alone": ('colour,size,"weight, kg"\n', "header", "no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_files_that_do_not_fit_the_schema(tmp_path, name):
    schema = read_csv(write(tmp_path, GOOD), target="price").schema
    content, *named = MISFITS[name]
    with pytest.raises(DataError) as e:
        again(tmp_path, content, schema)
    said = str(e.value)
    assert said.startswith(f"{tmp_path}/again.csv: ")
    assert "\n" not in said
    for word in named:
        assert word in said, word


def test_an_unknown_class(tmp_path):
    schema = read_csv(write(tmp_path, GOOD), target="colour").schema
    with pytest.raises(DataError, match=r"line 2: column 'colour': .*'pink'.* 'blue', 'green', 'red'"):
        again(tmp_path, 'size,colour,"weight, kg",price\n1,pink,2,3\n', schema)


def test_note_is_one_line_however_wide_the_table(tmp_path):
    names = [f"c{i}" for i in range(13)]
    content = ";".join([*names, "y"]) + "\n" + ";".join("1" * 14) + "\n" + ";" * 13 + "2\n"
    note = read_csv(write(tmp_path, content), target="y").note
    assert re.search("c7: 1 missing.* median 1; and 5 more .*; separator: semicolon", note)
    assert "c8" not in note
    assert "\n" not in note


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_embedded_tables_have_a_schema(tmp_path, name):
    table = load_table(name)
    values = [table.names[y] if table.names else str(y) for y in table.y]
    lines = [",".join(f'"{c}"' for c in (*table.columns, table.target))]
    lines += [",".join([*map(str, x), y]) for x, y in zip(table.x, values, strict=True)]
    x, y = again(tmp_path, "\n".join(lines), table.schema)
    np.testing.assert_array_equal(x, table.x)
    np.testing.assert_array_equal(y, table.y)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_embedded_tables(name):
    table, source = load_table(name), getattr(datasets, f"load_{name}")()
    np.testing.assert_allclose(table.x, source.data, rtol=1e-6)
    np.testing.assert_array_equal(table.y, source.target)
    assert table.x.dtype == np.float32
    assert table.y.dtype == (np.float32 if name == "diabetes" else np.int32)
    assert len(table.columns) == table.x.shape[1]
    assert table.names == (() if name == "diabetes" else tuple(source.target_names))


def test_names(monkeypatch):
    assert TABLES == ("iris", "wine", "breast_cancer", "diabetes", "california_housing", "bike_sharing")
    with pytest.raises(ValueError, match=r"'irsi' .*iris\?"):
        load_table("irsi")
    monkeypatch.delenv("JAXDL_DATA_DIR", raising=False)
    with pytest.raises(MissingData, match="--data_dir or JAXDL_DATA_DIR"):
        load_table("bike_sharing")


@pytest.mark.parametrize("folder", ["california-housing", "."])
def test_files_are_found_in_their_folder_or_in_data_dir(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    with pytest.raises(MissingData, match=r"california-housing/housing.csv or housing.csv"):
        load_table("california_housing", tmp_path)
    write(tmp_path / folder, "a,median_house_value\n1,2\n", "housing.csv")
    assert load_table("california_housing", tmp_path).y.tolist() == [2]


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_DATA_DIR", str(tmp_path))
    write(tmp_path, "a,median_house_value\n1,2\n", "housing.csv")
    assert load_table("california_housing").y.tolist() == [2]


def test_original_california_housing(data_dir):
    table = load_table("california_housing", data_dir)
    assert table.x.shape == (20_640, 8 + 5)
    assert re.search("total_bedrooms: 207 missing.* median 435;", table.note)
    assert "ocean_proximity: 5 categories" in table.note
    one_hot = table.x[:, [i for i, name in enumerate(table.columns) if name.startswith("ocean_proximity=")]]
    # Counts of <1H OCEAN, INLAND, ISLAND, NEAR BAY, NEAR OCEAN as the book that published the file prints them.
    assert one_hot.sum(axis=0).tolist() == [9136, 6551, 5, 2290, 2658]
    assert table.y[0] == 452_600
    assert table.x[0, :2].tolist() == [np.float32(-122.23), np.float32(37.88)]


def test_original_bike_sharing(data_dir):
    table = load_table("bike_sharing", data_dir)
    assert table.x.shape == (17_379, 12)
    assert table.columns[:3] == ("season", "yr", "mnth")
    assert table.y.sum() == pytest.approx(3_292_679, rel=1e-6)  # all rentals of both years
    assert table.y[:3].tolist() == [16, 40, 32]


def test_standardize_against_scikit_learn():
    rng = np.random.default_rng(0)
    train, test = rng.normal(5, 3, (13, 5)).astype(np.float32), rng.normal(size=(7, 5)).astype(np.float32)
    scaler = StandardScaler().fit(train.astype(np.float64))
    for ours, theirs in zip(standardize(train, test, test[:2]), (train, test, test[:2]), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, scaler.transform(theirs), rtol=1e-5, atol=1e-6)


def test_column_scales_are_those_of_standardize():
    train = np.random.default_rng(0).normal(5, 3, (13, 5)).astype(np.float32)
    train[:, 2] = 0.1
    mean, deviation = column_scales(train)
    np.testing.assert_array_equal(((train - mean) / deviation).astype(np.float32), standardize(train)[0])
    assert (mean[2], deviation[2]) == (np.float32(0.1), 1)


def test_standardize_constant_columns():
    train = np.stack([np.full(7, 0.1), np.arange(7)], axis=1)  # the mean of 0.1 is not exactly 0.1
    scaled, other = standardize(train, train[:2] + 1)
    assert scaled[:, 0].tolist() == [0] * 7
    np.testing.assert_allclose(other[:, 0], 1, rtol=1e-6)
    np.testing.assert_allclose(scaled[:, 1].std(), 1, rtol=1e-6)


@pytest.mark.parametrize("arrays", [(np.zeros(3),), (np.zeros((0, 3)),), (np.zeros((3, 2)), np.zeros((3, 5)))])
def test_standardize_refuses_wrong_shapes(arrays):
    with pytest.raises(ValueError, match=r"shape"):
        standardize(*arrays)


class TestLimits:
    def test_more_fields_than_are_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr("jaxdl.data.csv_columns.FIELDS", 14)
        path = write(tmp_path, GOOD)
        with pytest.raises(DataError, match=r"21 fields.* 14.*JAXDL_MAX_FIELDS=21 "):
            read_csv(path, target="price")
        monkeypatch.setenv("JAXDL_MAX_FIELDS", "21")
        check(read_csv(path, target="price"))

    def test_more_columns_than_are_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr("jaxdl.data.csv_columns.COLUMNS", 3)
        path = write(tmp_path, GOOD)
        with pytest.raises(DataError, match=r"line 1: 4 columns.* 3.*JAXDL_MAX_COLUMNS=4 "):
            read_csv(path, target="price")
        monkeypatch.setenv("JAXDL_MAX_COLUMNS", "4")
        check(read_csv(path, target="price"))

    @pytest.mark.parametrize("ends", ["\n", "\r", "\r\n"])
    def test_line_ends_of_every_kind_count(self, tmp_path, monkeypatch, ends):
        monkeypatch.setenv("JAXDL_MAX_FIELDS", "5")
        for last in ("", ends):
            with pytest.raises(DataError, match="7 fields"):
                read_csv(write(tmp_path, ends.join(["y", *"123456"]) + last), target="y")

    def test_more_numbers_than_are_made(self, tmp_path, monkeypatch):
        monkeypatch.setattr("jaxdl.data.csv_table.NUMBERS", 19)
        path = write(tmp_path, GOOD)
        with pytest.raises(DataError, match=r"4 rows of 5 .*20 numbers.*JAXDL_MAX_NUMBERS=20 "):
            read_csv(path, target="price")
        monkeypatch.setenv("JAXDL_MAX_NUMBERS", "20")
        check(read_csv(path, target="price"))

    def test_more_text_than_is_read(self, tmp_path, monkeypatch):
        monkeypatch.setenv("JAXDL_MAX_TEXT_BYTES", "17")
        with pytest.raises(DataError, match=r"17 bytes.*JAXDL_MAX_TEXT_BYTES"):
            read_csv(write(tmp_path, gzip.compress(GOOD.encode())), target="price")

    @pytest.mark.parametrize("value", ["much", "0", "-1", "1.5", "1e9", " 7", "9" * 5000, "1\n2"])
    @pytest.mark.parametrize("variable", ["FIELDS", "COLUMNS", "NUMBERS", "TEXT_BYTES"])
    def test_a_limit_is_a_whole_number(self, tmp_path, monkeypatch, variable, value):
        monkeypatch.setenv(f"JAXDL_MAX_{variable}", value)
        with pytest.raises(DataError, match=f"JAXDL_MAX_{variable}=.*whole number") as caught:
            read_csv(write(tmp_path, GOOD), target="price")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200

    @pytest.mark.claims
    @pytest.mark.parametrize("n", [100_000, pytest.param(1_000_000, marks=pytest.mark.full)])
    def test_very_many_columns(self, tmp_path, n):
        numbers = [",".join(map(str, (i % 7 + row for i in range(n)))) for row in range(2)]
        path = write(tmp_path, "\n".join([",".join(f"c{i}" for i in range(n)), *numbers]))
        begin = time.process_time()
        with pytest.raises(DataError, match=f"c18, c19 and {n - 20:,} more") as caught:
            read_csv(path, target="x")
        assert len(str(caught.value)) < 500
        assert time.process_time() - begin < 10  # an hour if each name is searched in a list of all before it
        begin = time.process_time()
        table = read_csv(path, target="c0", drop=[f"c{i}" for i in range(1, n, 2)])
        assert table.x[:, :4].tolist() == [[2, 4, 6, 1], [3, 5, 7, 2]]
        assert len(table.note) < 1000
        assert time.process_time() - begin < 20

    def test_long_names_do_not_fill_a_message(self, tmp_path):
        names = [f"{i}{'x' * 9000}" for i in range(30)]
        path = write(tmp_path, ",".join(names) + "\n" + ",".join("1" * 30))
        begin = time.process_time()
        with pytest.raises(DataError, match=r"and 10 more") as caught:
            read_csv(path, target="0y")
        assert len(str(caught.value)) < 2500
        assert time.process_time() - begin < 5  # difflib takes minutes to compare such names

    def test_a_class_of_any_size(self, tmp_path):
        with pytest.raises(DataError, match=r"line 2: column 'y': '9{37}.*finite"):
            read_csv(write(tmp_path, f"x,y\n1,{'9' * 5000}\n2,1\n"), target="y", classification=True)
        large = read_csv(write(tmp_path, "x,y\n1,3e38\n2,1\n"), target="y", classification=True)
        assert large.names == ("1", str(int(3e38)))


def test_medians_of_columns_short_and_long(tmp_path):
    """Tests the median of the values that are not missing; one row has only y."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 4, 700, 701):
        values = rng.normal(size=(count, 3))
        lines = ["a,b,c,y", *(",".join(map(repr, map(float, row))) + ",1" for row in values), ",,,2"]
        schema = read_csv(write(tmp_path, "\n".join(lines)), target="y").schema
        assert [entry["median"] for entry in schema["columns"]] == np.median(values, axis=0).tolist()


class TestReading:
    BLANKS = '18.0  8 "a b"  ?\n 9 7\t"c" 3 \n\n10 6 "a b"\t4\n'

    def test_blanks_without_a_header(self, tmp_path):
        for separator in ("auto", "blank"):
            table = read_csv(write(tmp_path, self.BLANKS), target="c1", reading=Reading(separator, header=False))
            assert table.columns == ("c2", "c3=a b", "c3=c", "c4")
            assert table.x.tolist() == [[8, 1, 0, 3.5], [7, 0, 1, 3], [6, 1, 0, 4]]
            assert table.y.tolist() == [18, 9, 10]
            assert re.search(r"separator: blank; .*c1 \(18.0\), c2 \(8\), c3 \(a b\), c4 \(missing\)", table.note)
            x, y = again(tmp_path, self.BLANKS, table.schema)
            np.testing.assert_array_equal(x, table.x)
            np.testing.assert_array_equal(y, table.y)

    def test_a_tab_among_blanks(self, tmp_path):
        content = '18.0   8   307.0  70  1\t"chevrolet malibu"\n15.0   8   350.0  ?  1\t"buick"\n'
        table = read_csv(write(tmp_path, content), target="c1", drop=["c6"], reading=Reading(header=False))
        assert table.x.tolist() == [[8, 307, 70, 1], [8, 350, 70, 1]]

    @pytest.mark.parametrize("content", ["a b\ty\n1\t2\n", "model year\n1\n", "a b,y\n1,2\n"])
    def test_blanks_in_names_separate_nothing(self, tmp_path, content):
        assert next(iter(read_columns(write(tmp_path, content), ()).columns)).count(" ") == 1

    def test_a_separator_that_is_given(self, tmp_path):
        content = "a,b;y\n1,2;3\n2,0;4\n"
        table = read_csv(write(tmp_path, content), target="y", reading=Reading("semicolon", decimal="comma"))
        assert table.columns == ("a,b",)
        assert table.x.tolist() == [[np.float32(1.2)], [2]]

    def test_decimal_commas(self, tmp_path):
        content = "a;b;y\n2,5;1e3;-0,5\n-1,25;7;1\n"
        table = read_csv(write(tmp_path, content), target="y", reading=Reading(decimal="comma"))
        assert table.x.tolist() == [[2.5, 1000], [-1.25, 7]]
        assert table.y.tolist() == [-0.5, 1]
        for wrong, flag in (({}, "comma"), ({"reading": Reading(decimal="comma")}, "point")):
            path = write(tmp_path, content if not wrong else content.replace(",", "."))
            with pytest.raises(DataError, match=f"line 2: .*--decimal={flag}"):
                read_csv(path, target="b", **wrong)

    def test_a_header_of_numbers_names_the_flag(self, tmp_path):
        with pytest.raises(DataError, match=r"line 1: .*--no_header"):
            read_csv(write(tmp_path, "1,2\n3,4\n"), target="1")
        with pytest.raises(DataError, match=r"separator: blank.*--separator.*--no_header"):
            read_csv(write(tmp_path, self.BLANKS), target="mpg")
        with pytest.raises(DataError, match=r"line 2: 1 fields.* first line .*2"):
            read_csv(write(tmp_path, "1,2\n3\n"), target="c1", reading=Reading(header=False))

    def test_blanks_are_bounded(self, tmp_path, monkeypatch):
        monkeypatch.setenv("JAXDL_MAX_FIELDS", "5")
        with pytest.raises(DataError, match="6 fields"):
            read_csv(write(tmp_path, "a   b\n1    2\n3 4\n"), target="a")

    @pytest.mark.parametrize(("name", "there"), [("MPG", "mpg"), ("Mpg", "mpg"), ("mpq", "mpg"), ("mpg", "MPG")])
    def test_a_name_in_another_case(self, tmp_path, name, there):
        with pytest.raises(DataError, match=rf"'{name}'.* '{there}'\?"):
            read_csv(write(tmp_path, f"weight,{there}\n1,2\n2,3\n"), target=name)


def test_rows_without_target_are_dropped(tmp_path):
    content = "a,y\n1,2\n7,\nx,?\n3,4\n"
    table = read_csv(write(tmp_path, content), target="y")
    assert table.x.tolist() == [[1], [3]]
    assert table.y.tolist() == [2, 4]
    assert "2 rows without y" in table.note
    found = encode_csv(write(tmp_path, "a,y\n5,\n6,1\n"), table.schema)
    assert (found.x.tolist(), found.y.tolist(), len(found.notes)) == ([[6]], [1], 1)
    assert "1 row without y" in found.notes[0]
    assert encode_csv(write(tmp_path, "a,y\n5,\n6,1\n"), table.schema, target=False).x.tolist() == [[5], [6]]


def test_texts_that_training_did_not_have(tmp_path):
    schema = read_csv(write(tmp_path, GOOD), target="price").schema
    found = encode_csv(
        write(tmp_path, 'Id,colour,size,"weight, kg"\n7,red,1,2\n8,gren,1,2\n9,,1,2\n9,gren,,2\n'), schema
    )
    assert found.x[:, 1:4].tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert len(found.notes) == 2
    assert found.notes[0].endswith(": Id")
    assert found.notes[1].startswith("colour: 1 missing, 2 x 'gren' unknown")


def test_one_message_lists_all_wide_texts_with_a_flag_to_paste(tmp_path):
    lines = ['"car, name",when,id,y', *(f"car {i},2016-01-{i % 28 + 1:02d},k{i},{i}" for i in range(53))]
    path = write(tmp_path, "\n".join([lines[0] + ",gone", *(line + ",0" for line in lines[1:])]))
    with pytest.raises(DataError, match=r"'car, name'.*'id'") as caught:
        read_csv(path, target="y", drop=["gone"])
    words = shlex.split(str(caught.value))
    (drop,) = (word.removeprefix("--drop=") for word in words if word.startswith("--drop="))
    assert columns_named(drop) == ["gone", "car, name", "id"]
    table = read_csv(path, target="y", drop=columns_named(drop))
    assert table.columns[0] == "when.years"


def test_dates_of_a_table(tmp_path):
    content = "kind,on,y\na,01/02/2016,1\nb,03/02/2016,2\na,,3\n"
    path = write(tmp_path, content)
    table = read_csv(path, target="y")
    assert table.columns == (
        "kind=a",
        "kind=b",
        "on.years",
        *(f"on.{c}_{w}" for c in ("year", "week") for w in ("sin", "cos")),
    )
    assert re.search("on: dates .*month/day/year.* 5 columns.* 1 missing.* day/month/year.*--drop=on", table.note)
    assert table.dated == "on"
    np.testing.assert_array_equal(np.diff(table.days[:2]), [60])  # the second of January, of March
    np.testing.assert_array_equal(table.x[2, 2:], table.x[0, 2:])  # the lower of two medians
    x, _ = again(tmp_path, content, table.schema)
    np.testing.assert_array_equal(x, table.x)
    dropped = read_csv(path, target="y", drop=["on"])
    assert (dropped.columns, dropped.dated) == (("kind=a", "kind=b"), "on")


def test_a_group_is_not_an_input(tmp_path):
    table = read_csv(write(tmp_path, "g,a,y\nu,1,2\nv,3,4\nu,5,6\n"), target="y", group="g")
    assert (table.columns, table.groups.tolist()) == (("a",), [0, 1, 0])
    assert again(tmp_path, "g,a\n?,7\n", table.schema)[0].tolist() == [[7]]
    with pytest.raises(DataError, match=r"'y' .*--target.*--group"):
        read_csv(tmp_path / "table.csv", target="y", group="y")


def test_a_schema_of_before_there_were_readings(tmp_path):
    schema = read_csv(write(tmp_path, GOOD), target="price").schema
    del schema["reading"]
    check(read_csv(write(tmp_path, GOOD), target="price"))
    assert again(tmp_path, GOOD, schema)[0].shape == (4, 5)
