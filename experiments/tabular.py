"""Tabular data: an MLP on a CSV file or a named table, compared with scikit-learn on the same rows.

Everything that a tabular problem needs before and after the network: encoding of text, dates and missing values,
scaling by the training rows alone, a random, temporal or grouped split, and predictions for new files. Linear models
and boosted trees on the same rows show whether the network is worth its training.

    regression:     L = ((f(z) - t) / s)^2, scored in the target's units by RMSE and R^2
    classification: L = -log softmax(f(z))_t, scored by accuracy

z are the columns standardised over the training rows, s is the target's standard deviation there. Text becomes one
0/1 column per value, all 0 for a value that training did not have; a date becomes a trend and periodic features; a
missing number becomes the median of its column. With --target_transform=log the model is trained on the target's
logarithm and still scored in the target's units.

    python -m experiments.tabular                                                   # breast_cancer, no files needed
    python -m experiments.tabular --table=diabetes --hidden=                        # the linear model
    python -m experiments.tabular --table=housing.csv --target=median_house_value
    python -m experiments.tabular --table=hourly.csv --target=load --split=time     # tests on the last fifth
    python -m experiments.tabular --table=auto-mpg.data --no_header --target=c1 --drop=c9
    python -m experiments.tabular --workdir=RUN --predict=new.csv                   # predictions for new rows
    python -m experiments.tabular --workdir=RUN --evaluate=other.csv

Boosted trees: Friedman 2001, Greedy function approximation.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, weighted_sum
from jaxdl.data import (
    SPLITS,
    TABLES,
    Batches,
    Data,
    DataError,
    Encoded,
    Reading,
    Table,
    columns_named,
    columns_of,
    encode_columns,
    encode_csv,
    encode_rows,
    load_table,
    read_csv,
    scaled_parts,
)
from jaxdl.data.csv_columns import DECIMALS, SEPARATORS
from jaxdl.methods import baselines
from jaxdl.nn import MLP
from jaxdl.run import Claim, Quantity, flag, pictures
from jaxdl.supervision import supervised

FAMILY = "tables"
FIGURE = "confusion"  # shown on the page of results
TASKS = {"regression": False, "classification": True}
FEW = 20  # at most so many different whole numbers may be class labels
CLAIMS = {
    "classes": Claim("Classification: test accuracy exceeds the rate of the majority class", "B07", headline=True),
    "numbers": Claim("Regression: the test error is below that of predicting the mean", "A02 B07",
                     flags="--table=diabetes"),
}  # fmt: skip
SMALL = {"table": "diabetes", "epochs": 30, "dropout": 0.0, "seeds": 1}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment; named tables are trained with three seeds, files with one."""

    recipes = {"table": {table: {"seeds": 3} for table in TABLES}}
    table: str = flag("breast_cancer", f"a CSV or TSV file, or one of {','.join(TABLES)}")
    target: str | None = flag(None, "column to predict; named tables have their own", shown="required for a file")
    drop: str | None = flag(None, "columns of the file to ignore, separated by commas", shown="none")
    task: str | None = flag(None, "kind of target", choices=TASKS, shown="classification of text, else regression")
    separator: str = flag("auto", "separator of the file's fields", choices=SEPARATORS)
    no_header: bool = flag(False, "the file's first line is data; columns are named c1, c2, ...")
    decimal: str = flag("point", "the file's decimal sign: 2.5 or 2,5", choices=DECIMALS)
    test_fraction: float = flag(0.2, "fraction of the rows held out for testing", more_than=0, less_than=1)
    split: str = flag("random", "test and validation rows: drawn by --seed, the last rows, or groups drawn by --seed",
                      choices=SPLITS)  # fmt: skip
    group: str | None = flag(None, "column of the groups; not an input", shown="none", needs=("split", ("group",)))
    target_transform: str = flag("none", "log: train on the target's logarithm", choices=("none", "log"))
    hidden: str = flag("64,64", "units of each hidden layer, separated by commas; empty: a linear model")
    dropout: float = flag(0.1, "dropout rate of the hidden units", minimum=0, less_than=1)
    epochs: float | None = 50
    seeds: int = flag(None)
    batch_size: int = 64
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    schedule: str = "cosine"
    log_every: int = 10

    def __post_init__(self) -> None:
        """Raises FlagError for a value outside its range."""
        super().__post_init__()
        if not all(re.fullmatch(r"[1-9]\d{0,8}", word) for word in self.hidden.split(",") if self.hidden):
            rule = "whole numbers from 1 to 999999999 separated by commas, or empty"
            raise run.FlagError(f"--hidden={self.hidden}: must be {rule}")
        named = self.table in TABLES
        if not named and not any(sign in self.table for sign in "./\\"):
            near = difflib.get_close_matches(self.table, TABLES, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            choices = f"a file such as ./{self.table or 'table'}.csv, or one of {', '.join(TABLES)}{hint}"
            raise run.FlagError(f"--table={self.table}: must be {choices}")
        if self.split == "group" and (named or not self.group):
            wanted = "applies to files only" if named else "needs --group=COLUMN, the column of the groups"
            raise run.FlagError(f"--split=group: {wanted}")
        for name, usual in (("target", None), ("drop", None), ("separator", "auto"), ("no_header", False),
                            ("decimal", "point")):  # fmt: skip
            if named and getattr(self, name) not in (usual, ""):
                raise run.FlagError(f"--{name}={getattr(self, name)}: applies to files only, not to {self.table}")


def load(config: Config) -> Table:
    """Reads the table named by the flags."""
    if config.table not in TABLES:
        return read_csv(
            config.table,
            target=config.target or "",
            classification=TASKS.get(config.task or ""),
            drop=columns_named(config.drop or ""),
            reading=Reading(config.separator, not config.no_header, config.decimal),
            group=config.group or "",
        )
    table = load_table(config.table, config.data_dir)
    if config.task not in (None, "classification" if table.names else "regression"):
        kind = "classes" if table.names else "numbers"
        raise run.FlagError(f"--task={config.task}: the target of {config.table} is {kind}; omit the flag")
    return table


def data(config: Config) -> Data:
    """Splits the rows into three parts and records the scales of their columns."""
    table = load(config)
    kinds, note = np.unique(table.y), table.note
    if config.task is None and not table.names and len(kinds) <= FEW and np.array_equal(kinds, kinds.round()):
        note += (f"\n{table.target} is read as a number; --task=classification reads its {len(kinds)} values as "
                 "classes")  # fmt: skip
    transform = _transform(config, table)
    if table.dated and config.split == "random":
        note += f"\nrows are split at random by --seed; --split=time tests on the last rows by {table.dated}"
    try:
        rows = scaled_parts(
            table, config.test_fraction, config.seed, config.table, config.valid_fraction, config.split, transform
        )
    except DataError:
        raise
    except ValueError as error:
        raise run.FlagError(str(error)) from None
    size = max(config.batch_size, 256)
    valid = Batches(rows.valid, size) if rows.valid else None
    facts = {"schema": table.schema, "scales": rows.scales} | ({"transform": transform} if transform else {})
    note += f"\n{rows.note}" if rows.note else ""
    return Data(Batches(rows.train, config.batch_size), valid, Batches(rows.test, size), note, facts)


def _transform(config: Config, table: Table) -> str:
    """Returns "log", "log1p" if the target has zeros, or "" if it is not transformed."""
    if config.target_transform == "none":
        return ""
    if table.names:
        raise run.FlagError(f"--target_transform={config.target_transform}: {table.target} is a class; omit the flag")
    if table.y.min() < 0:
        reason = f"{table.target} has negative values, such as {table.y.min():g}, which have no logarithm"
        raise run.FlagError(f"--target_transform={config.target_transform}: {reason}")
    return "log" if table.y.min() > 0 else "log1p"


def in_units(scales: dict[str, list[float]], transform: str, xp: Any = jnp) -> Callable[[Any], Any]:
    """Returns a function from the network's output to the target's units, in numpy or jax.numpy."""
    back = {"": lambda t: t, "log": xp.exp, "log1p": xp.expm1}[transform]
    (scale,), (mean,) = scales["y_deviation"], scales["y_mean"]
    return lambda z: back(z * scale + mean)


def build(config: Config, data: Data) -> Experiment:
    """Builds a classifier of one-hot y [B, K], or a regression of y [B, 1] that predicts in the target's units."""
    outputs, scales = data.example["y"].shape[-1], data.facts["scales"]
    model = MLP((*(int(word) for word in config.hidden.split(",") if word), outputs), dropout=config.dropout)
    tx = config.make_optimizer(data)
    if outputs > 1:
        return supervised(
            model,
            tx,
            example=data.example,
            loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"].argmax(-1)),
            metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"].argmax(-1))},
            predict=nn.softmax,
        )
    transform = data.facts.get("transform", "")
    units = in_units(scales, transform)
    base = supervised(
        model,
        tx,
        example=data.example,
        loss=lambda out, batch: losses.squared_error(out, batch["y"])[:, 0],
        predict=lambda out: units(out[:, 0]),
    )
    assert base.evaluate is not None
    assert base.predict is not None
    scores, predict, (deviation,) = base.evaluate, base.predict, scales["y_deviation"]
    # y is standardised before it is summed: float32 sums are exact enough for small numbers only
    own = in_units(scales, transform, np)
    middle, scale = (own(0.0), own(1.0) - own(0.0)) if transform else (0.0, deviation)

    def evaluate(state: Any, batch: Any) -> Any:
        y, mask, sums = batch["y"][:, 0], batch["mask"], scores(state, batch)
        error = sums["loss"]
        if transform:
            y = (units(y) - middle) / scale
            error = weighted_sum(losses.squared_error((predict(state, batch) - middle) / scale, y), mask)
        return sums | {"error": error, "y": weighted_sum(y, mask), "y2": weighted_sum(y**2, mask)}

    def summarize(sums: Any) -> dict[str, float]:
        (error, count), (loss, _) = ([float(value) for value in sums[name]] for name in ("error", "loss"))
        r2 = metrics.r_squared(error, sums["y"].sum, sums["y2"].sum, count)
        return {"loss": loss / count, "rmse": scale * (error / count) ** 0.5, "r2": r2}

    return base._replace(evaluate=evaluate, summarize=summarize)


def inference(config: Config, data: Data) -> run.Inference:
    """Predicts a class or number for each row of a file or table in memory; scores a file with the same columns.

    A table in memory is what `jaxdl.data.columns_of` accepts, or the path of a file. The outputs are those of the
    experiment's `predict`: probabilities [n, K], or numbers [n] in the target's units; there is no `decode`.
    """
    schema, scales, names = data.facts["schema"], data.facts["scales"], data.facts["schema"]["names"]
    transform = data.facts.get("transform", "")

    def noted(source: str, encoded: Encoded) -> Encoded:
        if encoded.notes:
            run.log(f"{source}: {'; '.join(encoded.notes)}")
        return encoded

    def inputs(parts: list[Encoded]) -> Batches:
        x = np.concatenate([part.x for part in parts])
        return Batches({"x": encode_rows(x, np.zeros(len(x), int), names, scales)["x"]}, 256)

    def read(files: list[str]) -> tuple[list[str], Batches]:
        parts = [noted(file, encode_csv(file, schema, target=False)) for file in files]
        rows = [f"{file} row {i + 1}" for file, part in zip(files, parts, strict=True) for i in range(len(part.x))]
        return rows, inputs(parts)

    def encode(table: Any) -> Batches:
        if isinstance(table, (str, os.PathLike)):
            return read([str(table)])[1]
        return inputs([noted("the table", encode_columns(columns_of(table, schema), schema, target=False))])

    def table(found: np.ndarray) -> dict[str, Any]:
        if names:
            return run.of_classes(found, names, "p({})")
        return {"prediction": [f"{value:.6g}" for value in found]}

    def labels(arrays: Mapping[str, Any]) -> list[str]:
        if names:
            return [names[i] for i in arrays["y"].argmax(-1)]
        return [f"{value:.6g}" for value in in_units(scales, transform, np)(arrays["y"][:, 0])]

    def test(source: str) -> Batches:
        if source in TABLES:
            raise run.FlagError(f"--evaluate={source}: must be a CSV file with the columns of {config.table}")
        x, y, _ = noted(source, encode_csv(source, schema))
        if y is None:
            raise DataError(
                f"{source}: no column {schema['target']!r}; --evaluate needs the target, --predict does not"
            )
        if transform and y.min() <= (least := {"log": 0, "log1p": -1}[transform]):
            raise DataError(
                f"{source}: {schema['target']!r} must be more than {least} for the log transform, got {y.min():g}"
            )
        return Batches(encode_rows(x, y, names, scales, transform), 256)

    return run.Inference(read, encode=encode, table=table, test=test, labels=labels)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains one fit per seed and compares it with scikit-learn's models."""
    result = run.fit(build(config, data), data, config)
    train, test, scales, schema = data.train.arrays, data.test.arrays, data.facts["scales"], data.facts["schema"]
    found, y, names = result.predict(data.test), test["y"], schema["names"]
    if names:
        run.save_figure(config, "confusion", lambda: pictures.confusion(y.argmax(-1), found.argmax(-1), names))
        accuracy = Quantity("test accuracy", result.values("accuracy"), ">", y.mean(0).max())
        models = ("logistic regression", "boosted trees")
        peers: Any = baselines.classifiers(train, test, models, seed=config.seed, most=np.inf)
        yield run.measured("classes", accuracy, reference=peers)
        return
    units = in_units(scales, data.facts.get("transform", ""), np)
    truth = units(y[:, 0])
    run.save_figure(config, "predictions", lambda: pictures.errors(truth, found, schema["target"]))
    peers = baselines.regressors(train, test, ("least squares", "boosted trees"), seed=config.seed, units=units)
    rmse, r2 = Quantity("RMSE", result.values("rmse")), Quantity("R^2", result.values("r2"), ">", 0.0)
    yield run.measured("numbers", rmse, r2, reference={f"R^2, {source}": score for source, (_, score) in peers.items()})


if __name__ == "__main__":
    run.main()
