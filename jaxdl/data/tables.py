"""Tables by name: four bundled with scikit-learn, two from their original CSV files; and your own CSV files."""

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxdl.data.csv_schema import make_schema
from jaxdl.data.csv_table import Table, encode_csv, read_csv
from jaxdl.data.files import FileSet

__all__ = ["TABLES", "Table", "column_scales", "encode_csv", "load_table", "read_csv", "standardize"]
CALIFORNIA_HOUSING = FileSet("california_housing", ("california-housing", ""), ("housing.csv",))
BIKE_SHARING = FileSet("bike_sharing", ("bike-sharing", ""), ("hour.csv",))


def load_table(name: str, data_dir: str | Path | None = None) -> Table:
    """Loads a table.

    ``iris``, ``wine``, ``breast_cancer`` (classes) and ``diabetes`` (regression) come with scikit-learn;
    ``california_housing`` is ``housing.csv``; ``bike_sharing`` is ``hour.csv`` without the columns that number the
    hours (instant, dteday) and the two counts whose sum is the target (casual, registered).

    Args:
      name: one of TABLES.
      data_dir: the folder with the CSV files, in it or in folders ``california-housing``, ``bike-sharing``.

    Raises:
      ValueError: the table is unknown.
      MissingData: the file does not exist.
      DataError: the file is broken.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(str(name), TABLES, 1)
        raise ValueError(
            f"unknown table {name!r}{f' (did you mean {near[0]}?)' if near else ''}; known: {', '.join(TABLES)}"
        )
    return LOADERS[name](data_dir)


def standardize(train_x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Shifts and scales columns so that the training rows have mean 0 and standard deviation 1.

    z = (x - mean(train)) / std(train); columns that are constant in the training rows are only shifted, to 0.

    Args:
      train_x: [N, D] numbers.
      *others: [M, D], scaled like train_x, so that no information from test rows leaks into training.

    Returns:
      (train, *others), float32.

    Raises:
      ValueError: an array is not [rows, D], or there are no training rows.
    """
    mean, deviation = column_scales(train_x)
    for other in others:
        if np.ndim(other) != 2 or np.shape(other)[1] != len(mean):
            raise ValueError(f"shapes {np.shape(other)} and {np.shape(train_x)}; both must be [rows, D]")
    return tuple(((np.asarray(x, np.float64) - mean) / deviation).astype(np.float32) for x in (train_x, *others))


def column_scales(train_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means and standard deviations that `standardize` uses, to scale later rows.

    Args:
      train_x: [N, D] numbers.

    Returns:
      (mean, deviation), float64 [D]; a constant column has its value as mean and deviation 1.

    Raises:
      ValueError: the array is not [rows, D], or has no rows.
    """
    if np.ndim(train_x) != 2 or len(train_x) == 0:
        raise ValueError(f"train_x has shape {np.shape(train_x)}; expected [N, D] with at least one row")
    train = np.asarray(train_x, np.float64)
    constant = train.max(axis=0) == train.min(axis=0)  # its computed deviation may differ from 0
    return np.where(constant, train[0], train.mean(axis=0)), np.where(constant, 1, train.std(axis=0))


def _sklearn(name: str) -> Callable[[str | Path | None], Table]:
    def load(data_dir: str | Path | None) -> Table:
        from sklearn import datasets

        source = getattr(datasets, f"load_{name}")()
        names = tuple(map(str, getattr(source, "target_names", ())))
        x, y = source.data.astype(np.float32), source.target.astype(np.int32 if names else np.float32)
        task = f"{len(names)} classes" if names else "regression"
        note = f"{name}: {len(y):,} rows, {x.shape[1]} input columns, {task} (from scikit-learn)"
        columns, target = tuple(map(str, source.feature_names)), "class" if names else "progression"
        described = [
            {"name": column, "kind": "number", "median": float(median)}
            for column, median in zip(columns, np.median(x, axis=0), strict=True)
        ]
        schema = make_schema(described, target, "text" if names else "number", names)
        return Table(x, y, columns, target, names, note, schema)

    return load


def _california_housing(data_dir: str | Path | None) -> Table:
    (path,) = CALIFORNIA_HOUSING.paths(data_dir)
    return read_csv(path, target="median_house_value")


def _bike_sharing(data_dir: str | Path | None) -> Table:
    (path,) = BIKE_SHARING.paths(data_dir)
    return read_csv(path, target="cnt", drop=("instant", "dteday", "casual", "registered"))


LOADERS: dict[str, Callable[[str | Path | None], Table]] = {
    "iris": _sklearn("iris"),
    "wine": _sklearn("wine"),
    "breast_cancer": _sklearn("breast_cancer"),
    "diabetes": _sklearn("diabetes"),
    "california_housing": _california_housing,
    "bike_sharing": _bike_sharing,
}
TABLES = tuple(LOADERS)
