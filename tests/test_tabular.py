"""Tests of tables: splits and scales, scores against scikit-learn, a finished run on new rows, invalid input."""

import re

import jax
import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.metrics import r2_score, root_mean_squared_error

from experiments import tabular
from experiments.tabular import Config, build, data, inference, load
from jaxdl import run
from jaxdl.data import Data, DataError, MissingData, encode_rows, load_table, scaled_parts
from tests.budget import first

QUIET = {"progress": False, "tensorboard": False, "devices": 1, "seeds": 1}


def people(path, count=97, seed=0):
    """Writes a file in which wage = 100 age + 1000 if the city is Ulm."""
    random = np.random.default_rng(seed)
    lines = ["age;city;wage;kind"]
    for _ in range(count):
        age, city = random.integers(18, 65), random.choice(["Bonn", "Ulm"])
        lines.append(f"{age};{city};{100 * age + 1000 * (city == 'Ulm')};{'old' if age > 40 else 'young'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_parts_are_disjoint_repeatable_and_scaled_by_the_training_rows():
    table = load_table("wine")
    rows, again, other = (scaled_parts(table, 0.3, seed, "wine", 0.1) for seed in (0, 0, 1))
    np.testing.assert_array_equal(rows.test["x"], again.test["x"])
    assert not np.array_equal(rows.test["x"], other.test["x"])
    assert not np.array_equal(rows.valid["x"], other.valid["x"])
    every = np.concatenate([rows.train["x"], rows.valid["x"], rows.test["x"]])
    assert (len(rows.train["x"]), len(rows.valid["x"]), len(rows.test["x"])) == (111, 13, 54)
    assert len(np.unique(every, axis=0)) == len(np.unique(table.x, axis=0)) == 178
    np.testing.assert_allclose(rows.train["x"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.train["x"].std(0), 1, rtol=1e-4)
    assert abs(rows.test["x"].mean(0)).max() > 0.05  # of the training rows alone
    np.testing.assert_allclose(rows.test["y"].mean(0), np.bincount(table.y) / len(table.y), atol=0.01)
    np.testing.assert_allclose(rows.valid["y"].sum(0), 13 * np.bincount(table.y) / len(table.y), atol=1.1)


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_the_validation_rows_are_of_the_training_rows_alone(name):
    table = load_table(name)
    rows, whole = (scaled_parts(table, 0.3, 0, name, valid) for valid in (0.1, 0))
    assert whole.valid is None
    found = {}
    for part, of in (("train", rows), ("valid", rows), ("test", rows), ("rest", whole), ("tested", whole)):
        mean, deviation = (np.array(of.scales[f"x_{name}"]) for name in ("mean", "deviation"))
        x = getattr(of, {"rest": "train", "tested": "test"}.get(part, part))["x"] * deviation + mean
        found[part] = [int(abs((table.x - row) / deviation).sum(1).argmin()) for row in x]
    # the first test rows, unchanged since before validation parts existed
    tested = {"wine": [53, 64, 6, 1, 98, 157, 77, 166], "diabetes": [362, 249, 271, 435, 400, 403, 12, 399]}
    assert found["test"][:8] == tested[name]
    assert found["test"] == found["tested"]
    assert sorted(found["train"] + found["valid"]) == sorted(found["rest"])
    assert sorted(found["rest"] + found["test"]) == list(range(len(table.y)))


def test_a_number_needs_two_rows_for_validation():
    table = load_table("diabetes")
    table = table._replace(x=table.x[:13], y=table.y[:13])
    with pytest.raises(ValueError, match=r"--valid_fraction=0.1: 9 training and 1 validation rows of t"):
        scaled_parts(table, 0.2, 0, "t", 0.1)
    assert len(scaled_parts(table, 0.2, 0, "t", 0.2).valid["y"]) == 2


@pytest.mark.claims
def test_scores_of_a_regression_are_scikit_learns_in_the_targets_units():
    config = Config(table="diabetes", steps=3, **QUIET)
    parts = data(config)
    result, scales = run.fit(build(config, parts), parts, config), parts.facts["scales"]
    predicted = result.predict(parts.test)
    truth = parts.test.arrays["y"][:, 0] * scales["y_deviation"][0] + scales["y_mean"][0]
    assert set(np.round(truth)) <= set(load(config).y)
    assert result.metrics["r2"] == pytest.approx(r2_score(truth, predicted), abs=1e-5)
    assert result.metrics["rmse"] == pytest.approx(np.sqrt(np.mean((truth - predicted) ** 2)), rel=1e-5)


@pytest.mark.parametrize("hidden", ["", "5", "7,3"])
@pytest.mark.claims
def test_hidden_layers(hidden):
    example = {"x": np.zeros((2, 11), np.float32), "y": np.zeros((2, 3), np.float32)}
    known = Data(example=example, facts={"scales": {}})
    state = jax.jit(build(Config(hidden=hidden, steps=1), known).init)(jax.random.key(0))
    widths = [state.learner.params[f"Dense_{i}"]["bias"].shape[0] for i in range(len(state.learner.params))]
    assert widths == [*(int(width) for width in hidden.split(",") if width), 3]


@pytest.mark.parametrize("target", ["wage", "kind"])
@pytest.mark.claims
def test_a_file_from_training_to_prediction(tmp_path, target):
    path = people(tmp_path / "people.csv")
    folder = str(tmp_path / "run")
    config = Config(table=str(path), target=target, hidden="", epochs=150, learning_rate=0.05, workdir=folder, **QUIET)
    measured = [one for one in run.findings(tabular, config) if one.quantities]
    assert [(one.name, one.holds) for one in measured] == [("numbers" if target == "wage" else "classes", True)]
    assert (tmp_path / "run" / ("predictions.png" if target == "wage" else "confusion.png")).exists()

    parts = data(config)
    used, experiment = inference(config, parts), build(config, parts)
    state = jax.jit(experiment.init)(jax.random.key(0))
    again, table = used.test(str(path)), load(config)
    whole = encode_rows(table.x, table.y, table.names, parts.facts["scales"])
    np.testing.assert_array_equal(again.arrays["x"], whole["x"])
    assert {tuple(x) for x in parts.test.arrays["x"]} <= {tuple(x) for x in again.arrays["x"]}

    new = tmp_path / "new.csv"
    new.write_text("kind,city,age,wage\n,Ulm,,\n,Bonn,30,\n".replace(",,", ",?,") if target == "kind" else
                   "kind,city,age\nold,Ulm,?\nyoung,Bonn,30\n")  # fmt: skip
    names, rows = used.read([str(new), str(new)])
    assert names == [f"{new} row 1", f"{new} row 2"] * 2
    columns = used.table(np.asarray(experiment.predict(state, rows.arrays)))
    if target == "wage":
        assert list(columns) == ["prediction"]
        assert columns["prediction"][:2] == columns["prediction"][2:]
        return
    assert list(columns) == ["prediction", "p(old)", "p(young)"]
    sums = [float(a) + float(b) for a, b in zip(columns["p(old)"], columns["p(young)"], strict=True)]
    np.testing.assert_allclose(sums, 1, atol=1e-3)
    named = zip(columns["prediction"], columns["p(old)"], strict=True)
    assert all((kind == "old") == (float(p) > 0.5) for kind, p in named)


@pytest.mark.trained
@pytest.mark.claims
def test_a_linear_model_finds_the_rule_of_the_file(tmp_path, seed, bound):
    """wage = 100 age + 1000 (city is Ulm) has no noise: the fitted line is exact on rows it has not seen."""
    config = Config(
        table=str(people(tmp_path / "people.csv")),
        **{"target": "wage", "drop": "kind", "hidden": "", "epochs": 300, "learning_rate": 0.05, "weight_decay": 0.0},
        seed=seed,
        **QUIET,
    )
    parts = data(config)
    result = run.fit(build(config, parts), parts, config)
    state_of_30_in_ulm = encode_rows(np.array([[30, 0, 1]]), np.zeros(1), (), parts.facts["scales"])["x"]
    value = result.experiment.predict(result.state, {"x": state_of_30_in_ulm})
    bound(abs(float(value[0]) - 4000), "<=", 20, "distance from 4000")
    bound(result.metrics["r2"], ">", 0.999)


WRONG_FLAGS = {
    "no such table": ({"table": "irsi"}, r"--table=irsi: must be a file such as ./irsi.csv, or one of .*mean iris\?"),
    "an empty table": ({"table": ""}, "--table=: must be a file such as ./table.csv"),
    "layers": ({"hidden": "64,x"}, "--hidden=64,x: must be whole numbers from 1 to 999999999"),
    "a layer of none": ({"hidden": "64,0"}, "--hidden=64,0: must be"),
    "a comma too many": ({"hidden": "64,"}, "--hidden=64,: must be"),
    "everything held out": ({"test_fraction": 1.0}, "--test_fraction=1.0: must be a finite number > 0 and < 1"),
    "the target of a named table": ({"target": "class"}, "--target=class: .*breast_cancer"),
    "how a named table is written": ({"no_header": True}, "--no_header=True: .*breast_cancer"),
    "groups of a named table": ({"split": "group", "group": "x"}, "--split=group: .*files"),
    "groups without a column": ({"table": "./t.csv", "split": "group"}, "--split=group: .*--group=COLUMN"),
    "a column of groups for nothing": ({"table": "./t.csv", "group": "g"}, "--group=g: .*--split=random"),
    "a separator": ({"table": "./t.csv", "separator": "tabs"}, r"--separator=tabs: .*did you mean tab\?"),
    "a column of a named table": ({"drop": "x"}, "--drop=x: .*breast_cancer"),
    "a task": ({"task": "regresion"}, r"--task=regresion: must be .*did you mean regression\?"),
}


@pytest.mark.parametrize("name", WRONG_FLAGS)
def test_wrong_flags(name):
    flags, message = WRONG_FLAGS[name]
    with pytest.raises(run.FlagError, match=message):
        Config(**flags)


WRONG_FILES = {
    "no target": ({"target": None}, DataError, "--target .*age, city, wage, kind"),
    "a target that is not there": ({"target": "wages"}, DataError, r"'wages'.* 'wage'\?"),
    "no file": ({"table": "./none.csv", "target": "y"}, MissingData, "none.csv: "),
    "text as a number": ({"target": "kind", "task": "regression"}, DataError, "line 2: column 'kind': '(old|young)'"),
    "too few to test": ({"target": "kind", "test_fraction": 0.001}, run.FlagError, "96 training and 1 test rows"),
    "a task that does not fit": (
        {"table": "iris", "task": "regression"}, run.FlagError, "--task=regression: .*iris"
    ),
    "a class has no logarithm": (
        {"target": "kind", "target_transform": "log"}, run.FlagError, "--target_transform=log: .*kind"
    ),
    "two groups for three parts": (
        {"target": "wage", "split": "group", "group": "city"}, run.FlagError, "--split=group: 2 groups"
    ),
    "no data_dir": ({"table": "bike_sharing"}, MissingData, "--data_dir"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_files(tmp_path, name, monkeypatch):
    monkeypatch.delenv("JAXDL_DATA_DIR", raising=False)
    flags, error, message = WRONG_FILES[name]
    with pytest.raises(error, match=message) as e:
        data(Config(**{"table": str(people(tmp_path / "p.csv")), **flags}))
    assert "\n" not in str(e.value)


def test_tables_from_which_nothing_can_be_learnt(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,u\n2,u\n3,v\n")
    with pytest.raises(DataError, match=r"t.csv: .*one row .*'v' of 'y'"):
        data(Config(table=str(path), target="y"))
    path.write_text("a,y\n" + "1,5\n" * 7)
    with pytest.raises(DataError, match=r"t.csv: 'y' is 5"):
        data(Config(table=str(path), target="y"))


def test_a_file_to_score_on_must_have_the_target(tmp_path):
    config = Config(table=str(people(tmp_path / "p.csv")), target="wage", steps=1)
    parts = data(config)
    other = tmp_path / "o.csv"
    other.write_text("age,city,kind\n30,Ulm,old\n")
    with pytest.raises(DataError, match=r"o.csv: .*'wage'"):
        inference(config, parts).test(str(other))
    with pytest.raises(run.FlagError, match=r"--evaluate=iris: .*CSV file"):
        inference(config, parts).test("iris")


def test_original_tables(data_dir):
    for table, columns in (("california_housing", 13), ("bike_sharing", 12)):
        parts = data(Config(table=table, data_dir=str(data_dir)))
        assert parts.train.arrays["x"].shape[1] == columns
        whole = sum(part.length for part in (parts.train, parts.valid, parts.test))
        assert parts.test.length == -(-whole // 5)


def hourly(path, count=97, groups=7):
    """Writes shuffled rows with y = 3 + hours since 2016, missing in the first of each day; `g` cycles."""
    hours = np.random.default_rng(0).permutation(count)
    when = np.datetime64("2016-01-01T00") + hours.astype("timedelta64[h]")
    lines = [
        f"{at},{hour},g{hour % groups},{'' if hour % 24 == 0 else hour + 3}"
        for at, hour in zip(when, hours, strict=True)
    ]
    path.write_text(
        "\n".join(["when,n,g,y", *(line.replace("T", " ").replace(",", ":00,", 1) for line in lines)]) + "\n"
    )
    return str(path)


@pytest.mark.parametrize("drop", [None, "when"])
def test_a_split_by_time_tests_on_the_last_rows(tmp_path, drop):
    config = Config(table=hourly(tmp_path / "t.csv"), target="y", drop=drop, split="time", valid_fraction=0.1)
    parts = data(config)
    units = tabular.in_units(parts.facts["scales"], "", np)
    train, valid, test = (
        np.round(units(part.arrays["y"][:, 0])).astype(int) for part in (parts.train, parts.valid, parts.test)
    )
    expected = [hour + 3 for hour in range(97) if hour % 24]
    assert [*train, *valid, *test] == expected
    assert (len(train), len(valid), len(test)) == (65, 8, 19)
    assert "5 rows without y" in parts.note
    assert re.search("split by time: the last 19 rows .*sorting by when", parts.note)


def test_a_split_by_time_without_dates_keeps_the_order_of_the_file(tmp_path):
    parts = data(Config(table=str(people(tmp_path / "p.csv")), target="wage", split="time", valid_fraction=0.0))
    units = tabular.in_units(parts.facts["scales"], "", np)
    wages = [int(line.split(";")[2]) for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    found = np.concatenate([units(part.arrays["y"][:, 0]) for part in (parts.train, parts.test)])
    np.testing.assert_allclose(found, wages, rtol=1e-5)
    assert parts.valid is None
    assert "in file order" in parts.note


def test_a_random_split_of_dates_names_the_flag(tmp_path):
    for drop in (None, "when"):
        parts = data(Config(table=hourly(tmp_path / "t.csv"), target="y", drop=drop))
        assert re.search("--split=time .*when", parts.note)
    assert "--split=time" not in data(Config(table=str(people(tmp_path / "p.csv")), target="wage")).note
    broken = hourly(tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    (tmp_path / "t.csv").write_text("\n".join([*lines[:3], ",1,g1,5", *lines[3:]]))
    with pytest.raises(DataError, match=r"t.csv: row \d+: .*'when'.*--split=time"):
        data(Config(table=broken, target="y", split="time"))


@pytest.mark.parametrize("seed", [0, 1])
def test_no_group_is_in_two_parts(tmp_path, seed):
    config = Config(table=hourly(tmp_path / "t.csv"), target="y", split="group", group="g", drop="when", seed=seed)
    parts = data(config)
    units = tabular.in_units(parts.facts["scales"], "", np)
    hours = [np.round(units(part.arrays["y"][:, 0])).astype(int) - 3 for part in (parts.train, parts.valid, parts.test)]
    groups = [set(one % 7) for one in hours]
    assert [len(one) for one in groups] == [4, 1, 2]
    assert len(set.union(*groups)) == 7
    assert sorted(np.concatenate(hours)) == [hour for hour in range(97) if hour % 24]
    assert parts.train.arrays["x"].shape[1] == 1
    other = data(config.replace(seed=seed + 10))
    assert not np.array_equal(other.test.arrays["x"], parts.test.arrays["x"])


def test_a_class_without_training_rows_is_reported(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "1,u\n2,v\n" * 7 + "3,w\n" * 4)
    parts = data(Config(table=str(tmp_path / "t.csv"), target="y", split="time"))
    assert "no training row has the class w" in parts.note


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.claims
def test_a_logarithm_of_the_target_is_scored_in_its_units(tmp_path, zeros):
    """Compares predictions and scores with a TransformedTargetRegressor around the same network."""
    random = np.random.default_rng(0)
    x = random.normal(size=(211, 3))
    y = np.exp(3 * x[:, 0]) * 1000 if not zeros else np.maximum(0, x @ [1, 2, 3]) * 100
    lines = ["a,b,c,y", *(",".join(map(repr, [*map(float, row), float(one)])) for row, one in zip(x, y, strict=True))]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    config = Config(table=str(path), target="y", target_transform="log", steps=60, hidden="11", **QUIET)
    parts = data(config)
    assert parts.facts["transform"] == ("log1p" if zeros else "log")
    found = run.fit(build(config, parts), parts, config)
    there, back = (np.log1p, np.expm1) if zeros else (np.log, np.exp)
    rows = {name: nearest_rows(getattr(parts, name), parts, x[:, 0]) for name in ("train", "test")}
    train = there(y[rows["train"]])
    scales = parts.facts["scales"]
    np.testing.assert_allclose([scales["y_mean"][0], scales["y_deviation"][0]], [train.mean(), train.std()], rtol=1e-5)

    class Net(BaseEstimator, RegressorMixin):
        def fit(self, rows, targets):
            return self

        def predict(self, rows):
            out = found.experiment.model.apply(found.state.variables, rows, train=False)[:, 0]
            return np.asarray(out, np.float64) * train.std() + train.mean()

    truth = y[rows["test"]]
    model = TransformedTargetRegressor(Net(), func=there, inverse_func=back).fit(
        parts.train.arrays["x"], y[: parts.train.length]
    )
    says = model.predict(parts.test.arrays["x"])
    np.testing.assert_allclose(found.predict(parts.test), says, rtol=1e-4)
    assert found.metrics["rmse"] == pytest.approx(root_mean_squared_error(truth, says), rel=1e-4)
    assert found.metrics["r2"] == pytest.approx(r2_score(truth, says), abs=1e-4)
    used = inference(config, parts)
    whole = used.test(str(path))
    np.testing.assert_allclose(whole.arrays["y"][:, 0], (there(y) - train.mean()) / train.std(), atol=1e-4)
    np.testing.assert_array_equal(used.encode(x.astype(str)).arrays["x"], whole.arrays["x"])
    (tmp_path / "n.csv").write_text("a,b,c,y\n1,2,3,-5\n")
    with pytest.raises(DataError, match=r"n.csv: 'y' .*-5"):
        used.test(str(tmp_path / "n.csv"))


def nearest_rows(part, parts, first):
    """Returns the rows of the table in a part, matched by their first column."""
    scales = parts.facts["scales"]
    x = part.arrays["x"][:, 0] * scales["x_deviation"][0] + scales["x_mean"][0]
    return np.abs(x[:, None] - first).argmin(1)


def test_negative_numbers_have_no_logarithm(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n" + "1,2\n2,-3\n" * 7)
    with pytest.raises(run.FlagError, match=r"--target_transform=log: y .*-3"):
        data(Config(table=str(tmp_path / "t.csv"), target="y", target_transform="log"))


@pytest.mark.parametrize("target", first(["wage", "kind"]))
def test_a_table_in_memory_equals_its_file(tmp_path, target, capsys):
    config = Config(table=str(people(tmp_path / "p.csv")), target=target, steps=1)
    parts = data(config)
    used, experiment = inference(config, parts), build(config, parts)
    other = {"wage": "kind", "kind": "wage"}[target]
    new = tmp_path / "new.csv"
    new.write_text(f"Id,city,age,{other}\n1,Ulm,30,{'old' if target == 'wage' else 7}\n2,Salmon,,\n")
    _, rows = used.read([str(new)])
    assert ": Id" in (told := capsys.readouterr().err)
    assert "city: 1 x 'Salmon' unknown" in told
    table = {
        "Id": [1, 2],
        "city": ["Ulm", "Salmon"],
        "age": [30, None],
        other: ["old" if target == "wage" else 7, None],
    }
    for one in (table, str(new), new):
        np.testing.assert_array_equal(used.encode(one).arrays["x"], rows.arrays["x"])
    assert "the table: " in capsys.readouterr().err
    state = jax.jit(experiment.init)(jax.random.key(0))
    found = np.asarray(experiment.predict(state, rows.arrays))
    assert found.shape == ((2,) if target == "wage" else (2, 2))


def test_rows_without_target_are_not_scored(tmp_path, capsys):
    config = Config(table=str(people(tmp_path / "p.csv")), target="wage", steps=1)
    (tmp_path / "o.csv").write_text("age,city,kind,wage\n30,Ulm,old,\n31,Ulm,old,7\n")
    assert inference(config, data(config)).test(str(tmp_path / "o.csv")).length == 1
    assert "1 row without wage" in capsys.readouterr().err
    (tmp_path / "o.csv").write_text("age,city,kind,wage\n30,Ulm,odd,4\n31,Ulm,old,7\n")
    config = config.replace(target="kind")
    with pytest.raises(DataError, match=r"line 2: column 'kind': .*'odd'"):
        inference(config, data(config)).test(str(tmp_path / "o.csv"))
