"""--predict and --evaluate: apply a finished run to files, print the results and write them to its folder."""

import csv
import glob
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data import Batches, DataError, MissingData
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError, parse
from jaxdl.run.command.use import Loaded, check_use, of_use, open_finished
from jaxdl.run.show.claims import number
from jaxdl.run.show.pictures import image_grid
from jaxdl.run.show.report import log
from jaxdl.run.store.files import read_json, replacing, write, write_json
from jaxdl.run.store.folder import check_same
from jaxdl.run.store.identity import digest_of_data
from jaxdl.run.store.runs import format_table as aligned
from jaxdl.streams import printable

SHOWN = 20  # rows of predictions on the screen
LONG = 60  # characters of a cell on the screen; the file has the whole cell
DRAWN = 64  # images in the plot of predictions
TEST = "test"  # the word for the rows of the run's own test part


def use_run(config: RunConfig, module: Any, name: str) -> None:
    """Performs --predict and --evaluate.

    Args:
      config: the run's configuration with the flags of the command line, and its folder in `workdir`.
      module: the experiment.
      name: the name of the experiment in its runs.

    Raises:
      FlagError: no run is given, it is a run of another experiment, or the experiment does not support this.
      MissingData, DataError: the run or the files cannot be used.
    """
    if not config.workdir:
        raise FlagError(f"--{'predict' if config.predict else 'evaluate'}: needs a finished run, --workdir=RUN")
    check_same(config, name)
    flags = {flag: getattr(config, flag) for flag in of_use(type(config))}
    run = open_finished(config.workdir, module, expected=name, **flags)
    if config.predict:
        write_predictions(run, inputs_of(run, [config.predict]))
    if config.evaluate:
        write_evaluation(run, config.evaluate)


def with_flags(run: Loaded, words: Sequence[str]) -> Loaded:
    """Returns the same run with flags of group "use", written as on a command line: --temperature=0.5.

    Raises:
      FlagError: as `parse` and `check_use`.
    """

    def checked(given: dict[str, Any]) -> Any:
        check_use(type(run.config), given)
        return run.config

    return run.using(parse(type(run.config), words, checked))


def inputs_of(run: Loaded, words: Sequence[str]) -> list[str] | None:
    """Expands the words of a command line as `expand`; None, the run's own test part, for the word test.

    Raises:
      MissingData: as `expand`.
    """
    if list(words) == [TEST] and run.inference.labels is not None and not os.path.exists(TEST):
        return None
    return [path for word in words for path in expand(word, run.inference.words)]


def expand(words: str, literally: bool = False) -> list[str]:
    """Expands files, folders and glob patterns, separated by commas, to existing paths.

    Args:
      words: the text of --predict. If it is an existing path as a whole, commas do not separate.
      literally: whether a text that matches no file is an input itself, unless it looks like a path.

    Raises:
      MissingData: a path or pattern matches no file.
    """
    if os.path.exists(words):
        return [words]
    found, missing = [], []
    for word in words.split(","):
        paths = [word] if os.path.exists(word) else sorted(glob.glob(word, recursive=True))
        found += paths
        missing += [] if paths else [word]
    if literally and not found and " " not in words.strip() and (os.sep in words or Path(words).suffix[1:].isalpha()):
        literally = False  # a misspelt path, not a prompt
    if literally and not found:
        return [words]
    if missing:
        raise MissingData(f"--predict={missing[0]}: no such file; give files, folders or patterns, separated by commas")
    return found


def write_predictions(run: Loaded, inputs: list[str] | None) -> None:
    """Writes the predictions to a CSV file, images to PNG and NPY files too; prints the first rows.

    Without inputs the rows are those of the run's own test part.

    The columns are id, those of the experiment's table, of which the first is prediction where it predicts a class or a
    number, and label, the true value, for rows of the run's own test part.
    """
    if run.inference.read is None or run.outputs_of is None:
        raise FlagError("--predict: this experiment makes no predictions for files")
    out = Path(run.config.out or Path(run.config.workdir) / "predictions.csv")
    if out.suffix != ".csv":
        raise FlagError(f"--out={out}: must end in .csv")
    names, rows, labels = of_test(run) if inputs is None else (*run.inference.read(inputs), None)
    outputs = run.outputs(rows)
    written = []
    columns = dict(run.inference.table(outputs)) if run.inference.table is not None else {}
    columns |= {} if labels is None else {"label": labels}
    if columns:
        lines = [["id", *columns], *map(list, zip(names, *columns.values(), strict=True))]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        say, shown = run.inference.say, lines[: SHOWN + 1]
        print(say(names, outputs) if say else aligned(list(map(_short, shown))), flush=True)
        write(out, text.getvalue())
        more = f"{len(names) - SHOWN:,} more rows and " if len(names) > SHOWN and not say else ""
        written.append(f"{more}all columns in {out}")
    images = run.inference.images(outputs) if run.inference.images is not None else None
    if images is not None:
        written.append(_save_images(out, images))
    log(f"{'; '.join(written)}{'' if len(run.states) == 1 else f', from the first of {len(run.states)} seeds'}")


def of_test(run: Loaded) -> tuple[list[str], Batches, list[Any]]:
    """Returns (ids, rows, true values) of the run's own test part; an id is the number of the row, from 1.

    Raises:
      FlagError: the experiment's test part has no labels.
      DataError, MissingData: as `test_part`.
    """
    if run.inference.labels is None:
        raise FlagError("--predict=test: this experiment has no labels to write; give files")
    rows = test_part(run)
    return [str(i + 1) for i in range(rows.length)], rows, list(run.inference.labels(rows.arrays))


def test_part(run: Loaded) -> Batches:
    """Returns the rows of the test part on which a finished run was measured; it reads the run's data.

    Raises:
      FlagError: the run has no test part that is one set of rows.
      DataError: the data are no longer those on which the run was measured.
      MissingData: the data files are missing.
    """
    part = run.module.data(run.config).batched(256).test if hasattr(run.module, "data") else None
    if not isinstance(part, Batches):
        raise FlagError(f"{run.config.workdir}: this run has no test part that is one set of rows")
    if run.tested and {"test": digest_of_data(part)} != run.tested:
        raise DataError(f"{run.config.workdir}: the test part is not the one on which this run was measured")
    return part


def _short(line: list[Any]) -> list[str]:
    """Shortens the cells of a line for the screen; of an input's path the end is kept, where paths differ."""
    name, *cells = (printable(str(cell).replace("\n", "⏎")) for cell in line)
    name = name if len(name) <= LONG else f"…{name[1 - LONG :]}"
    return [name, *(cell if len(cell) <= LONG else f"{cell[: LONG - 1]}…" for cell in cells)]


def _save_images(out: Path, images: np.ndarray) -> str:
    picture, array = out.with_suffix(".png"), out.with_suffix(".npy")
    with replacing(picture) as file:
        image_grid(images[:DRAWN]).savefig(file, format="png", dpi=120)
    with replacing(array) as file:
        np.save(file, images)
    return f"{len(images):,} images in {array}, the first {min(DRAWN, len(images))} plotted in {picture}"


def write_evaluation(run: Loaded, source: str) -> None:
    """Prints the run's metrics on another data set and on its own test set; adds them to evaluations.json."""
    test = run.test(source)
    found = run.evaluate(test)
    path = Path(run.config.workdir) / "evaluations.json"
    print(f"{'':14}{'on ' + printable(source):>24}{'on its own test set':>24}")
    for name in found[0]:
        cells = [number([m[name] for m in those]) if all(name in m for m in those) else "-"
                 for those in (found, run.metrics)]  # fmt: skip
        print(f"{name:14}{cells[0]:>24}{cells[1]:>24}", flush=True)
    write_json(path, (read_json(path) or {}) | {source: found})
    log(f"{test.length:,} rows; metrics added to {path}")
