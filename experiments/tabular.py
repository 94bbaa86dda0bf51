"""Tables of your own: a net on a CSV file, or on a table by name, beside scikit-learn on the same rows.

    regression:     L = ((f(z) - t) / s)^2, scored in the target's units: RMSE, R^2
    classification: L = -log softmax(f(z))_t, scored by accuracy

z are the columns with mean 0 and deviation 1 over the training rows, s is the target's deviation there. Text becomes
one 0/1 column for each of its values, a date a trend and waves, and a missing number the median of its column, as the
first line of a run says. A text that training did not have is read as none of the known ones. With
--target_transform=log t is the target's logarithm; the scores are in the target's units all the same.

    python -m experiments.tabular                                                   # breast_cancer, no files needed
    python -m experiments.tabular --table=diabetes --hidden=                        # the linear model
    python -m experiments.tabular --table=housing.csv --target=median_house_value
    python -m experiments.tabular --table=hourly.csv --target=load --split=time     # tested on the last fifth
    python -m experiments.tabular --table=auto-mpg.data --no_header --target=c1 --drop=c9
    python -m experiments.tabular --workdir=RUN --predict=new.csv                   # the finished run on other rows
    python -m experiments.tabular --workdir=RUN --evaluate=other.csv

Beside it: Friedman 2001, Greedy function approximation (boosted trees).
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator
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
FIGURE = "confusion"  # the one that the results page shows
TASKS = {"regression": False, "classification": True}
FEW = 20  # different whole numbers that may be classes in disguise
CLAIMS = {
    "classes": Claim("classes of new rows are told more often than by the most frequent class", "B07", headline=True),
    "numbers": Claim("numbers of new rows are told better than by their mean", "A02 B07", flags="--table=diabetes"),
}
SMALL = {"table": "diabetes", "epochs": 30, "dropout": 0.0}  # where the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    table: str = flag("breast_cancer", f"a CSV or TSV file, or one of {','.join(TABLES)}")
    target: str | None = flag(None, "column to predict; named tables have their own", shown="needed for a file")
    drop: str | None = flag(None, "columns of the file to leave out, separated by commas", shown="none")
    task: str | None = flag(
        None, "what is predicted", choices=TASKS, shown="classification where the target is text, else regression"
    )
    separator: str = flag("auto", "what stands between the fields of the file", choices=SEPARATORS)
    no_header: bool = flag(False, "the file's first line is a row: its columns are c1, c2, ...")
    decimal: str = flag("point", "the file's decimal sign: 2.5 or 2,5", choices=DECIMALS)
    test_fraction: float = flag(0.2, "part of the rows held out for testing", more_than=0, less_than=1)
    split: str = flag(
        "random", "rows for testing and validation: drawn by --seed, the last ones, or whole groups drawn by --seed",
        choices=SPLITS,
    )  # fmt: skip
    group: str | None = flag(
        None, "column whose equal values are one group, no input", shown="none", needs=("split", ("group",))
    )
    target_transform: str = flag("none", "log: trained on the target's logarithm", choices=("none", "log"))
    hidden: str = flag("64,64", "units of each hidden layer, separated by commas; empty: the linear model")
    dropout: float = flag(0.1, "probability of a hidden unit being 0 in training", minimum=0, less_than=1)
    epochs: float | None = 50
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
            raise run.FlagError(
                f"--hidden={self.hidden}: must be whole numbers from 1 to 999999999 separated by commas, or empty"
            )
        named = self.table in TABLES
        if not named and not any(sign in self.table for sign in "./\\"):
            near = difflib.get_close_matches(self.table, TABLES, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            choices = f"one of {', '.join(TABLES)}{hint}"
            raise run.FlagError(
                f"--table={self.table}: must be a file such as ./{self.table or 'table'}.csv, or {choices}"
            )
        if self.split == "group" and (named or not self.group):
            told = "only for files" if named else "name the column of the groups, --group=COLUMN"
            raise run.FlagError(f"--split=group: {told}")
        for name, usual in (("target", None), ("drop", None), ("separator", "auto"), ("no_header", False),
                            ("decimal", "point")):  # fmt: skip
            if named and getattr(self, name) not in (usual, ""):
                raise run.FlagError(f"--{name}={getattr(self, name)}: only for files; {self.table} has its own columns")


def load(config: Config) -> Table:
    """The table that the flags name."""
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
        raise run.FlagError(f"--task={config.task}: the target of {config.table} is {kind}; leave the flag out")
    return table


def data(config: Config) -> Data:
    """The rows in three parts, and by what their columns are scaled."""
    table = load(config)
    kinds, note = np.unique(table.y), table.note
    if config.task is None and not table.names and len(kinds) <= FEW and np.array_equal(kinds, kinds.round()):
        note += (f"\n{table.target} is taken for a number; --task=classification takes its {len(kinds)} values for "
                 "classes")  # fmt: skip
    transform = _transform(config, table)
    if table.dated and config.split == "random":
        note += f"\nrows are split at random, by --seed; --split=time tests on the last ones by {table.dated}"
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
    """log, or log1p where there are zeros; "" where the target is trained on as it is."""
    if config.target_transform == "none":
        return ""
    if table.names:
        raise run.FlagError(f"--target_transform={config.target_transform}: {table.target} is a class; leave it out")
    if table.y.min() < 0:
        raise run.FlagError(
            f"--target_transform={config.target_transform}: {table.target} has negative values, {table.y.min():g} for "
            "one; they have no logarithm: leave it out"
        )
    return "log" if table.y.min() > 0 else "log1p"


def in_units(scales: dict[str, list[float]], transform: str, xp: Any = jnp) -> Callable[[Any], Any]:
    """What a net tells -> numbers in the target's units, with numpy or jax.numpy."""
    back = {"": lambda t: t, "log": xp.exp, "log1p": xp.expm1}[transform]
    (scale,), (mean,) = scales["y_deviation"], scales["y_mean"]
    return lambda z: back(z * scale + mean)


def build(config: Config, data: Data) -> Experiment:
    """A classifier of y [B, K], one-hot, that predicts probabilities; or a regression of y [B, 1], in its units."""
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
    # sums of float32 are exact enough where the numbers are small: y in deviations from about its mean
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
    """The class or the number of each row of a file or of a program's table; the score on a file of the same columns.

    A program's table is what `jaxdl.data.columns_of` takes, or the path of a file. What `decode` would have to do the
    experiment's own `predict` has done: probabilities [n, K], or numbers [n] in the target's units.
    """
    schema, scales, names = data.facts["schema"], data.facts["scales"], data.facts["schema"]["names"]
    transform = data.facts.get("transform", "")

    def told(source: str, encoded: Encoded) -> Encoded:
        if encoded.notes:
            run.log(f"{source}: {'; '.join(encoded.notes)}")
        return encoded

    def inputs(parts: list[Encoded]) -> Batches:
        x = np.concatenate([part.x for part in parts])
        return Batches({"x": encode_rows(x, np.zeros(len(x), int), names, scales)["x"]}, 256)

    def read(files: list[str]) -> tuple[list[str], Batches]:
        parts = [told(file, encode_csv(file, schema, target=False)) for file in files]
        rows = [f"{file} row {i + 1}" for file, part in zip(files, parts, strict=True) for i in range(len(part.x))]
        return rows, inputs(parts)

    def encode(table: Any) -> Batches:
        if isinstance(table, (str, os.PathLike)):
            return read([str(table)])[1]
        return inputs([told("the table", encode_columns(columns_of(table, schema), schema, target=False))])

    def table(found: np.ndarray) -> dict[str, Any]:
        if names:
            return run.of_classes(found, names, schema["target"], "p({})")
        return {schema["target"]: [f"{value:.6g}" for value in found]}

    def test(source: str) -> Batches:
        if source in TABLES:
            raise run.FlagError(f"--evaluate={source}: must be a CSV file with the columns of {config.table}")
        x, y, _ = told(source, encode_csv(source, schema))
        if y is None:
            raise DataError(f"{source}: no column {schema['target']!r} to score by; --predict needs none")
        if transform and y.min() <= (least := {"log": 0, "log1p": -1}[transform]):
            raise DataError(
                f"{source}: {schema['target']!r} is {y.min():g} in a row; its logarithm needs more than {least}"
            )
        return Batches(encode_rows(x, y, names, scales, transform), 256)

    return run.Inference(read, encode=encode, table=table, test=test)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """One fit of each seed beside scikit-learn's models."""
    result = run.fit(build(config, data), data, config)
    train, test, scales, names = (
        data.train.arrays,
        data.test.arrays,
        data.facts["scales"],
        data.facts["schema"]["names"],
    )
    found, y = result.predict(data.test), test["y"]
    if names:
        run.save_figure(config, "confusion", lambda: pictures.confusion(y.argmax(-1), found.argmax(-1), names))
        accuracy = Quantity("accuracy", result.values("accuracy"), ">", y.mean(0).max())
        models = ("logistic regression", "boosted trees")
        peers: Any = baselines.classifiers(train, test, models, seed=config.seed, most=np.inf)
        yield run.measured("classes", accuracy, reference=peers)
        return
    units = in_units(scales, data.facts.get("transform", ""), np)
    truth = units(y[:, 0])
    run.save_figure(config, "predictions", lambda: pictures.errors(truth, found, data.facts["schema"]["target"]))
    peers = baselines.regressors(train, test, ("least squares", "boosted trees"), seed=config.seed, units=units)
    rmse, r2 = Quantity("RMSE", result.values("rmse")), Quantity("R^2", result.values("r2"), ">", 0.0)
    yield run.measured("numbers", rmse, r2, reference={f"R^2, {source}": score for source, (_, score) in peers.items()})


if __name__ == "__main__":
    run.main()
