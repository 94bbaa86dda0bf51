"""Tables as a program has them, as the columns of a file: whatever is asked of a file's fields is asked of theirs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.data.csv_columns import Column, Columns, Reading
from jaxdl.data.errors import DataError, some


def columns_of(table: Any, schema: Mapping[str, Any]) -> Columns:
    """The columns of rows that a program hands over; their values are written as in a file, so they mean the same.

    None, NaN, and pandas' NA and NaT are missing values, and so is what was one in the file of training.

    Args:
      table: a pandas DataFrame or what else has `.columns` and gives a column as `table[name]`; {name: values}; one
        row as {name: value}; a list of such rows, of which each may lack some; an array [N, D] or a row [D] of the
        input columns of training in their order.
      schema: of the table of training.

    Raises:
      DataError: none of these, or columns of different lengths.
    """
    wanted = [entry["name"] for entry in schema["columns"]]
    columns: dict[str, Iterable[Any]]
    if hasattr(table, "columns") and hasattr(table, "__getitem__"):
        columns = {str(name): table[name] for name in table.columns}
    elif isinstance(table, Mapping):
        single = [np.ndim(values) == 0 for values in map(_bare, table.values())]
        columns = {str(name): [value] if all(single) else value for name, value in table.items()}
        if any(single) and not all(single):
            raise DataError("the table: some columns have one value, others several; give columns or a row")
    elif isinstance(table, Sequence) and table and all(isinstance(row, Mapping) for row in table):
        names = dict.fromkeys(name for row in table for name in row)
        columns = {str(name): [row.get(name) for row in table] for name in names}
    elif not isinstance(table, str) and np.ndim(table) in (1, 2) and np.shape(table)[-1] == len(wanted):
        columns = dict(zip(wanted, np.atleast_2d(np.asarray(table)).T, strict=True))
    else:
        shape = f"of shape {np.shape(table)}" if isinstance(table, np.ndarray) else f"a {type(table).__name__}"
        raise DataError(
            f"the table: {shape}; a DataFrame, columns or rows by name, or an array of the {len(wanted)} input columns "
            f"{some(wanted)} is needed"
        )
    reading = Reading(**schema.get("reading", {}))
    absent = frozenset(word.lower() for word in schema["missing"])
    texts = {name: [_text(value, reading, absent) for value in values] for name, values in columns.items()}
    lengths = {len(values) for values in texts.values()}
    if lengths == {0} or len(lengths) != 1:
        raise DataError(
            "the table: has no rows" if lengths <= {0} else f"the table: columns of {sorted(lengths)} rows; one length"
        )
    rows = range(1, lengths.pop() + 1)
    read = {name: Column(name, values, rows, "row", reading.decimal) for name, values in texts.items()}
    return Columns("the table", read, [])


def _bare(value: Any) -> Any:
    """A value of which numpy can say whether it is one."""
    return 0 if value is None or isinstance(value, (str, bytes)) else value


def _text(value: Any, reading: Reading, absent: frozenset[str]) -> str | None:
    """A value as it stands in a file; None where it is missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value.astype("datetime64[s]"))
    text = str(value).strip()
    if text.lower() in absent or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return None
    return text if isinstance(value, str) or reading.decimal == "point" else text.replace(".", ",")
