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

Mission rows A02 and B07. Beside it: Friedman 2001, Greedy function approximation (boosted trees).
"""

import csv
import difflib
import re
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from experiments._tabular_report import baselines, draw
from experiments._tabular_rows import Rows, encode, parts
from jaxdl import losses, metrics, run
from jaxdl.core import Experiment, supervised, total
from jaxdl.data import TABLES, Batches, DataError, Table, load_table, read_csv
from jaxdl.data.tables import encode_csv
from jaxdl.nn import MLP
from jaxdl.run import Bound, Claim, flag

TASKS = {"auto": None, "regression": False, "classification": True}
FEW = 20  # different whole numbers that may be classes in disguise
SMALL = {"table": "diabetes", "epochs": 30, "dropout": 0.0}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment."""

    table: str = flag("breast_cancer", f"a CSV or TSV file, or one of {','.join(TABLES)}")
    target: str = flag("", "column to predict; named tables have their own", shown="needed for a file")
    drop: str = flag("", "columns of the file to leave out, separated by commas", shown="none")
    task: str = flag("auto", "auto: classification where the target is text, else regression", choices=TASKS)
    test_fraction: float = flag(0.2, "part of the rows held out for testing", above=0, below=1)
    hidden: str = flag("64,64", "units of each hidden layer, separated by commas; empty: the linear model")
    dropout: float = flag(0.1, "probability of a hidden unit being 0 in training", low=0, below=1)
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
        drop = next(csv.reader([config.drop], skipinitialspace=True), [])
        return read_csv(config.table, target=config.target, classification=TASKS[config.task], drop=drop)
    table = load_table(config.table, config.data_dir)
    if config.task not in ("auto", "classification" if table.names else "regression"):
        kind = "classes" if table.names else "numbers"
        raise run.FlagError(f"--task={config.task}: the target of {config.table} is {kind}; leave the flag out")
    return table


def held_out(config: Config, table: Table) -> Rows:
    """The table's parts."""
    return parts(table, config.test_fraction, config.seed, config.table, config.valid_fraction)


def data(config: Config, rows: Rows | None = None) -> tuple[Batches, Batches | None, Batches]:
    """Training, validation and test batches."""
    rows, size = rows or held_out(config, load(config)), max(config.batch_size, 256)
    valid = Batches(rows.valid, size) if rows.valid else None
    return Batches(rows.train, config.batch_size), valid, Batches(rows.test, size)


def make_model(config: Config, outputs: int) -> MLP:
    """The network: (x [B, D], train) -> [B, K] logits, or [B, 1]."""
    return MLP((*(int(word) for word in config.hidden.split(",") if word), outputs), dropout=config.dropout)


def build(config: Config, example: dict[str, Any], scale: float = 1.0) -> Experiment:
    """A classifier of y [B, K] one-hot, or the regression of y [B, 1], whose errors are told times `scale`."""
    outputs = example["y"].shape[-1]
    model, tx = make_model(config, outputs), config.make_optimizer()
    if outputs > 1:
        return supervised(
            model,
            tx,
            example=example,
            loss=lambda logits, batch: losses.softmax_cross_entropy(logits, batch["y"].argmax(-1)),
            metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"].argmax(-1))},
        )
    base = supervised(model, tx, example=example, loss=lambda out, batch: losses.squared_error(out, batch["y"])[:, 0])

    def evaluate(state: Any, batch: Any) -> Any:
        y, mask = batch["y"][:, 0], batch["mask"]
        assert base.evaluate is not None
        return base.evaluate(state, batch) | {"y": total(y, mask), "y2": total(y**2, mask)}

    def summarize(sums: Any) -> dict[str, float]:
        error, count = (float(value) for value in sums["loss"])
        mse = error / count
        return {
            "loss": mse,
            "rmse": scale * mse**0.5,
            "r2": metrics.r_squared(error, sums["y"].sum, sums["y2"].sum, count),
        }

    return base._replace(evaluate=evaluate, summarize=summarize)


def predictor(model: Any, scales: dict[str, list[float]]) -> Any:
    """(state, batch) -> {"p": [B, K]}, or {"value": [B]} in the target's units."""

    def predict(state: Any, batch: Any) -> dict[str, jax.Array]:
        out = model.apply(state.variables, batch["x"])
        if out.shape[-1] > 1:
            return {"p": nn.softmax(out)}
        return {"value": out[:, 0] * scales["y_deviation"][0] + scales["y_mean"][0]}

    return predict


def use(config: Config, about: dict[str, Any]) -> run.Use:
    """The class or the number of each row of a CSV file, and the score on another file of the same columns."""
    schema, scales, names = about["schema"], about["scales"], about["schema"]["names"]
    model = make_model(config, about["example"]["y"].shape[-1])

    def read(files: list[str]) -> tuple[list[str], Batches]:
        x = [encode_csv(file, schema, target=False)[0] for file in files]
        rows = [f"{file} row {i + 1}" for file, part in zip(files, x, strict=True) for i in range(len(part))]
        none = np.zeros(len(rows), int)
        return rows, Batches({"x": encode(np.concatenate(x), none, names, scales)["x"]}, 256)

    def table(outputs: dict[str, np.ndarray]) -> dict[str, Any]:
        if not names:
            return {schema["target"]: [f"{value:.6g}" for value in outputs["value"]]}
        p = outputs["p"]
        best = {schema["target"]: [names[i] for i in p.argmax(-1)]}
        return best | {f"p({name})": [f"{value:.4f}" for value in p[:, i]] for i, name in enumerate(names)}

    def test(source: str) -> Batches:
        if source in TABLES:
            raise run.FlagError(f"--evaluate={source}: must be a CSV file with the columns of {config.table}")
        x, y = encode_csv(source, schema)
        if y is None:
            raise DataError(f"{source}: no column {schema['target']!r} to score by; --predict needs none")
        return Batches(encode(x, y, names, scales), 256)

    experiment = build(config, about["example"], scales.get("y_deviation", [1.0])[0])
    return run.Use(experiment, model, read, predictor(model, scales), table, test)


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    table = load(config)
    run.say(table.note)
    kinds = np.unique(table.y)
    if config.task == "auto" and not table.names and len(kinds) <= FEW and np.array_equal(kinds, kinds.round()):
        run.say(
            f"{table.target} is taken for a number; --task=classification takes its {len(kinds)} values for classes"
        )
    rows = held_out(config, table)
    train, valid, test = data(config, rows)
    config = config.resolve(train)
    run.remember(config, train.example, schema=table.schema, scales=rows.scales)
    scale = rows.scales.get("y_deviation", [1.0])[0]
    result = run.fit(build(config, train.example, scale), train, valid, config, test=test)
    predict = predictor(make_model(config, train.example["y"].shape[-1]), rows.scales)
    draw(config, table, test.arrays["y"], run.apply(predict, result.state, test), rows.scales)

    beside = ", ".join(
        f"{name} {score}" for name, score in baselines(rows.train, rows.test, scale, config.seed).items()
    )
    sizes = f"{train.length:,} rows to learn from, {test.length:,} new ones"
    if table.names:
        share = float(rows.test["y"].mean(0).max())
        text = (
            f"{config.table}, {sizes}: {table.target} is right more often than the most frequent of {len(table.names)} "
        )
        found, bound = run.plus_minus(result.values("accuracy")), Bound(result.metrics["accuracy"], ">", share)
        text, row = text + f"classes, {share:.4f}", "B07"
    else:
        text = f"{config.table}, {sizes}: {table.target} is told better than by its mean, R^2 above 0"
        found = f"RMSE {run.plus_minus(result.values('rmse'))}, R^2 {run.plus_minus(result.values('r2'))}"
        bound, row = Bound(result.metrics["r2"], ">", 0.0), "A02 B07"
    found, source = f"{found} in {result.seconds:.0f} s", "scikit-learn, same rows"
    return [Claim(row, text, found, beside, source, bound.holds, bounds=(bound,))]


if __name__ == "__main__":
    run.main(Config, main)
