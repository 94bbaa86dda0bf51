"""`python -m experiments gsb A B`: compares the predictions of two models example by example.

A and B are files with the columns id and prediction, as --predict writes them, or folders of finished runs, which then
predict their test part. The true values are in the column label of one file or both, or in the data of the runs.
"""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxdl import metrics
from jaxdl.data import DataError, MissingData, read_text
from jaxdl.metrics import Gsb
from jaxdl.run.command.flags import FlagError
from jaxdl.run.command.predictions import of_test
from jaxdl.run.command.use import open_finished
from jaxdl.run.store.files import write
from jaxdl.run.store.runs import format_table
from jaxdl.streams import printable

WORDS = {1: "good", 0: "same", -1: "bad"}


class Predictions(NamedTuple):
    """One model's predictions by the id of the example, and the true values; {} if they are not known."""

    source: str
    predictions: dict[str, str]
    labels: dict[str, str]
    tested: Mapping[str, Any] = {}


def gsb(a: str, b: str, fit: str | None = None, kind: str | None = None, out: str | None = None) -> Gsb:
    """Prints on how many examples A is better than B, as good, and worse, with a sign test.

    Args:
      a, b: a file of predictions or the folder of a finished run.
      fit: which fit of a run with several.
      kind: "classes": a prediction is correct or wrong; "numbers": the smaller absolute error is better. None: numbers
        if all values are numbers and not all are whole.
      out: CSV file for the comparison of each example.

    Raises:
      FlagError: the two cannot be compared, or `kind` does not fit.
      DataError, MissingData: a file or a run cannot be read.
    """
    if out is not None and not out.endswith(".csv"):
        raise FlagError(f"--out={out}: must end in .csv")
    one, other = (_of_run(Path(x), fit) if Path(x).is_dir() else _of_file(Path(x)) for x in (a, b))
    labels = _labels(one, other)
    texts = [*one.predictions.values(), *other.predictions.values(), *labels.values()]
    kind = kind or ("numbers" if _are_numbers(texts) else "classes")
    scores = [_scores(x, labels, kind) for x in (one, other)]
    found = metrics.gsb(*scores)
    mean = lambda score: f"{sum(score):,.0f} of {found.n:,} correct" if kind == "classes" else (
        f"mean absolute error {-sum(score) / found.n:.6g}"
    )  # fmt: skip
    print(f"A: {printable(one.source)}: {mean(scores[0])}\nB: {printable(other.source)}: {mean(scores[1])}\n")
    cells = map(str, (found.good, found.same, found.bad))
    table = [["A is better", "same", "B is better", "(G - B) / n", "p, sign test", ""]]
    print(format_table([*table, [*cells, f"{found.balance:+.4f}", f"{found.p:.3g}", ""]]))
    if len(set(labels.values())) == 1:
        print(f"all {found.n:,} labels are {next(iter(labels.values()))!r}: this compares the models on one class only")
    if out is not None:
        _write(Path(out), one, other, labels, *scores)
    return found


def _of_file(path: Path) -> Predictions:
    rows = list(csv.DictReader(io.StringIO(read_text(path))))
    columns = list(rows[0]) if rows else []
    for name in ("id", "prediction"):
        if name not in columns:
            has = f"it has {', '.join(map(str, columns[:8]))}" if columns else "it has no rows"
            raise DataError(f"{path}: must have the columns id, prediction and, if known, label; {has}")
    found = Predictions(str(path), {}, {})
    for number, row in enumerate(rows, 2):
        key, prediction, label = row["id"], row["prediction"], row.get("label")
        if key in found.predictions:
            raise DataError(f"{path}: line {number}: the id {key!r} occurs twice")
        for name, value in (("prediction", prediction), ("label", label)):
            if (value is None and name in columns) or (value is not None and _is_missing(value)):
                raise DataError(f"{path}: line {number}: {name} of the id {key!r} is missing or NaN")
        found.predictions[key] = prediction
        if label is not None:
            found.labels[key] = label
    return found


def _of_run(folder: Path, fit: str | None) -> Predictions:
    run = open_finished(folder, fit=fit)
    if not run.metrics[0]:
        raise FlagError(f"{folder}: has not finished; a run reads its test part at its end")
    ids, rows, labels = of_test(run)
    if run.inference.table is None:
        raise FlagError(f"{folder}: this experiment has no table of predictions")
    columns = run.inference.table(run.outputs(rows))
    values = list(map(str, columns["prediction"]))
    return Predictions(
        str(folder), dict(zip(ids, values, strict=True)), dict(zip(ids, map(str, labels), strict=True)), run.tested
    )


def _labels(a: Predictions, b: Predictions) -> dict[str, str]:
    """The true values by id, after the check that both models predicted the same examples."""
    both = f"{a.source} and {b.source}"
    if a.tested and b.tested and a.tested != b.tested:
        raise FlagError(f"{both}: must have been measured on the same test part, but their digests differ")
    if len(a.predictions) != len(b.predictions):
        raise DataError(
            f"{both}: must predict the same examples, but have {len(a.predictions):,} and {len(b.predictions):,} rows"
        )
    if missing := [key for key in a.predictions if key not in b.predictions]:
        raise DataError(f"{both}: must predict the same examples, but the second lacks the id {missing[0]!r}")
    if not (a.labels or b.labels):
        raise MissingData(f"{both}: neither has the true values; add a column label to one of the files")
    differ = [key for key in a.labels if key in b.labels and a.labels[key] != b.labels[key]]
    if differ:
        raise DataError(
            f"{both}: the label of the id {differ[0]!r} is {a.labels[differ[0]]!r} and {b.labels[differ[0]]!r}"
        )
    return a.labels or b.labels


def _scores(x: Predictions, labels: Mapping[str, str], kind: str) -> list[float]:
    if kind == "classes":
        return [float(x.predictions[key] == label) for key, label in labels.items()]
    try:
        return [-abs(float(x.predictions[key]) - float(label)) for key, label in labels.items()]
    except ValueError as error:
        raise FlagError(f"--kind=numbers: {x.source} or its labels have a value that is no number ({error})") from None


def _is_missing(value: str) -> bool:
    return value.strip().lower() in ("", "nan", "na", "none")


def _are_numbers(texts: list[str]) -> bool:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return False
    return not all(text.strip().lstrip("+-").isdecimal() for text in texts) and all(map(math.isfinite, values))


def _write(
    out: Path, a: Predictions, b: Predictions, labels: Mapping[str, str], x: list[float], y: list[float]
) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["id", "label", "a", "b", "a_is"])
    for (key, label), p, q in zip(labels.items(), x, y, strict=True):
        lines.writerow([key, label, a.predictions[key], b.predictions[key], WORDS[(p > q) - (p < q)]])
    try:
        write(out, text.getvalue())
    except OSError as error:
        raise FlagError(f"--out={out}: cannot be written ({error.strerror})") from None
