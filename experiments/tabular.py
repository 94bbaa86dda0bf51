"""Tables of your own: a net on a CSV file, or on a table by name, beside scikit-learn on the same rows.

    regression:     L = ((f(z) - t) / s)^2, scored in the target's units: RMSE, R^2
    classification: L = -log softmax(f(z))_t, scored by accuracy

z are the columns with mean 0 and deviation 1 over the training rows, s is the target's deviation there. Text becomes
one 0/1 column for each of its values and a missing number the median of its column, as the first line of a run says.

    python -m experiments.tabular                                                   # breast_cancer, no files needed
    python -m experiments.tabular --table=diabetes --hidden=                        # the linear model
    python -m experiments.tabular --table=housing.csv --target=median_house_value
    python -m experiments.tabular --workdir=RUN --predict=new.csv                   # the finished run on other rows
    python -m experiments.tabular --workdir=RUN --evaluate=other.csv

Beside it: Friedman 2001, Greedy function approximation (boosted trees).
"""

import csv
import difflib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import linen as nn

from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, weighted_sum
from jaxdl.data import (
    TABLES,
    Batches,
    Data,
    DataError,
    Table,
    encode_csv,
    encode_rows,
    load_table,
    read_csv,
    scaled_parts,
)
from jaxdl.methods import baselines
from jaxdl.nn import MLP
from jaxdl.run import Claim, Quantity, flag, pictures
from jaxdl.supervision import supervised

FAMILY = "tables"
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
    test_fraction: float = flag(0.2, "part of the rows held out for testing", more_than=0, less_than=1)
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
        if named and (self.target or self.drop):
            name = "target" if self.target else "drop"
            raise run.FlagError(f"--{name}={getattr(self, name)}: only for files; {self.table} has its own columns")


def load(config: Config) -> Table:
    """The table that the flags name."""
    if config.table not in TABLES:
        drop = next(csv.reader([config.drop or ""], skipinitialspace=True), [])
        return read_csv(
            config.table, target=config.target or "", classification=TASKS.get(config.task or ""), drop=drop
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
    try:
        rows = scaled_parts(table, config.test_fraction, config.seed, config.table, config.valid_fraction)
    except DataError:
        raise
    except ValueError as error:
        raise run.FlagError(str(error)) from None
    size = max(config.batch_size, 256)
    valid = Batches(rows.valid, size) if rows.valid else None
    facts = {"schema": table.schema, "scales": rows.scales}
    return Data(Batches(rows.train, config.batch_size), valid, Batches(rows.test, size), note, facts)


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
    (scale,), (mean,) = scales["y_deviation"], scales["y_mean"]
    base = supervised(
        model,
        tx,
        example=data.example,
        loss=lambda out, batch: losses.squared_error(out, batch["y"])[:, 0],
        predict=lambda out: out[:, 0] * scale + mean,
    )
    assert base.evaluate is not None
    scores = base.evaluate

    def evaluate(state: Any, batch: Any) -> Any:
        y, mask = batch["y"][:, 0], batch["mask"]
        return scores(state, batch) | {"y": weighted_sum(y, mask), "y2": weighted_sum(y**2, mask)}

    def summarize(sums: Any) -> dict[str, float]:
        error, count = (float(value) for value in sums["loss"])
        r2 = metrics.r_squared(error, sums["y"].sum, sums["y2"].sum, count)
        return {"loss": error / count, "rmse": scale * (error / count) ** 0.5, "r2": r2}

    return base._replace(evaluate=evaluate, summarize=summarize)


def inference(config: Config, data: Data) -> run.Inference:
    """The class or the number of each row of a CSV file, and the score on another file of the same columns."""
    schema, scales, names = data.facts["schema"], data.facts["scales"], data.facts["schema"]["names"]

    def read(files: list[str]) -> tuple[list[str], Batches]:
        x = [encode_csv(file, schema, target=False)[0] for file in files]
        rows = [f"{file} row {i + 1}" for file, part in zip(files, x, strict=True) for i in range(len(part))]
        none = np.zeros(len(rows), int)
        return rows, Batches({"x": encode_rows(np.concatenate(x), none, names, scales)["x"]}, 256)

    def table(found: np.ndarray) -> dict[str, Any]:
        if names:
            return run.of_classes(found, names, schema["target"], "p({})")
        return {schema["target"]: [f"{value:.6g}" for value in found]}

    def test(source: str) -> Batches:
        if source in TABLES:
            raise run.FlagError(f"--evaluate={source}: must be a CSV file with the columns of {config.table}")
        x, y = encode_csv(source, schema)
        if y is None:
            raise DataError(f"{source}: no column {schema['target']!r} to score by; --predict needs none")
        return Batches(encode_rows(x, y, names, scales), 256)

    return run.Inference(read, table=table, test=test)


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
        yield run.measured("classes", accuracy, beside=peers)
        return
    truth = y[:, 0] * scales["y_deviation"][0] + scales["y_mean"][0]
    run.save_figure(config, "predictions", lambda: pictures.errors(truth, found, data.facts["schema"]["target"]))
    peers = baselines.regressors(train, test, ("least squares", "boosted trees"), seed=config.seed)
    rmse, r2 = Quantity("RMSE", result.values("rmse")), Quantity("R^2", result.values("r2"), ">", 0.0)
    yield run.measured("numbers", rmse, r2, beside={f"R^2, {source}": score for source, (_, score) in peers.items()})


if __name__ == "__main__":
    run.main()
