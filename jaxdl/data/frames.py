"""Converts tables in memory to the columns of a file, so that both are checked and encoded alike."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.data.csv_columns import Column, Columns, Reading
from jaxdl.data.errors import DataError, some


def columns_of(table: Any, schema: Mapping[str, Any]) -> Columns:
    """Returns the columns of a table in memory, with its values as the texts that a file would contain.

    None, NaN, and pandas' NA and NaT are missing values, and so are the texts that mark one in the training file.

    Args:
      table: a pandas DataFrame or another object with `.columns` and `table[name]`; {name: values}; one row as
        {name: value}; a list of such rows, each of which may omit columns; an array [N, D] or a row [D] of the
        training table's input columns in their order.
      schema: schema of the training table.

    Raises:
      DataError: the table is none of these, or its columns differ in length.
    """
    wanted = [entry["name"] for entry in schema["columns"]]
    columns: dict[str, Iterable[Any]]
    if hasattr(table, "columns") and hasattr(table, "__getitem__"):
        columns = {str(name): table[name] for name in table.columns}
    elif isinstance(table, Mapping):
        single = [np.ndim(values) == 0 for values in map(_bare, table.values())]
        columns = {str(name): [value] if all(single) else value for name, value in table.items()}
        if any(single) and not all(single):
            raise DataError("the table: some columns have one value and others several; give one row or whole columns")
    elif isinstance(table, Sequence) and table and all(isinstance(row, Mapping) for row in table):
        names = dict.fromkeys(name for row in table for name in row)
        columns = {str(name): [row.get(name) for row in table] for name in names}
    elif not isinstance(table, str) and np.ndim(table) in (1, 2) and np.shape(table)[-1] == len(wanted):
        columns = dict(zip(wanted, np.atleast_2d(np.asarray(table)).T, strict=True))
    else:
        shape = f"an array of shape {np.shape(table)}" if isinstance(table, np.ndarray) else f"a {type(table).__name__}"
        raise DataError(
            f"the table: got {shape}; expected a DataFrame, columns or rows by name, or an array of the {len(wanted)} "
            f"input columns {some(wanted)}"
        )
    reading = Reading(**schema.get("reading", {}))
    absent = frozenset(word.lower() for word in schema["missing"])
    texts = {name: [_text(value, reading, absent) for value in values] for name, values in columns.items()}
    lengths = {len(values) for values in texts.values()}
    if lengths == {0} or len(lengths) != 1:
        raise DataError(
            "the table: has no rows; at least one is needed"
            if lengths <= {0}
            else f"the table: its columns have {sorted(lengths)} rows; all must have the same number"
        )
    rows = range(1, lengths.pop() + 1)
    read = {name: Column(name, values, rows, "row", reading.decimal) for name, values in texts.items()}
    return Columns("the table", read, [])


def _bare(value: Any) -> Any:
    """Returns a value that NumPy recognizes as a scalar or an array."""
    return 0 if value is None or isinstance(value, (str, bytes)) else value


def _text(value: Any, reading: Reading, absent: frozenset[str]) -> str | None:
    """Returns a value as the text in a file; None if it is missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value.astype("datetime64[s]"))
    text = str(value).strip()
    if text.lower() in absent or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return None
    return text if isinstance(value, str) or reading.decimal == "point" else text.replace(".", ",")
