"""Tables by name: four that scikit-learn brings, two in their original CSV files; CSV files of one's own."""

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
    ``california_housing`` is ``housing.csv``, ``bike_sharing`` is ``hour.csv``, without the columns that number the
    hours (instant, dteday) and the two parts whose sum is the target (casual, registered).

    Args:
      name: one of TABLES.
      data_dir: the folder with the CSV files, in it or in folders ``california-housing``, ``bike-sharing``.

    Raises:
      ValueError: no such table.
      MissingData: the file is not there.
      DataError: the file is broken.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(str(name), TABLES, 1)
        raise ValueError(
            f"no table {name!r}{f' (did you mean {near[0]}?)' if near else ''}; there are {', '.join(TABLES)}"
        )
    return LOADERS[name](data_dir)


def standardize(train_x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Shifts and scales columns so that the training rows have mean 0 and standard deviation 1.

    z = (x - mean(train)) / std(train); columns that are constant in the training rows are only shifted, to 0.

    Args:
      train_x: [N, D] numbers.
      *others: [M, D], scaled with the numbers of train_x, so that nothing of test rows leaks into training.

    Returns:
      (train, *others), float32.

    Raises:
      ValueError: arrays that are not [rows, D], or no training rows.
    """
    mean, deviation = column_scales(train_x)
    for other in others:
        if np.ndim(other) != 2 or np.shape(other)[1] != len(mean):
            raise ValueError(f"shapes {np.shape(other)} and {np.shape(train_x)}; both must be [rows, D]")
    return tuple(((np.asarray(x, np.float64) - mean) / deviation).astype(np.float32) for x in (train_x, *others))


def column_scales(train_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of columns, what `standardize` takes off and divides by, for rows that come later.

    Args:
      train_x: [N, D] numbers.

    Returns:
      (mean, deviation), float64 [D]; a column that is constant has its value as mean and deviation 1.

    Raises:
      ValueError: an array that is not [rows, D], or no rows.
    """
    if np.ndim(train_x) != 2 or len(train_x) == 0:
        raise ValueError(f"train_x has shape {np.shape(train_x)}; [N, D] with at least one row is needed")
    train = np.asarray(train_x, np.float64)
    constant = train.max(axis=0) == train.min(axis=0)  # the computed deviation of such a column need not be exactly 0
    return np.where(constant, train[0], train.mean(axis=0)), np.where(constant, 1, train.std(axis=0))


def _sklearn(name: str) -> Callable[[str | Path | None], Table]:
    def load(data_dir: str | Path | None) -> Table:
        from sklearn import datasets

        source = getattr(datasets, f"load_{name}")()
        names = tuple(map(str, getattr(source, "target_names", ())))
        x, y = source.data.astype(np.float32), source.target.astype(np.int32 if names else np.float32)
        task = f"{len(names)} classes" if names else "regression"
        note = f"{name}: {len(y):,} rows, {x.shape[1]} input columns, {task} (scikit-learn's)"
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
