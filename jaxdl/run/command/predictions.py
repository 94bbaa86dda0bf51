"""--predict and --evaluate: a finished run on files, shown on the screen and written beside it."""

import csv
import glob
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.data import MissingData
from jaxdl.run.command.config import RunConfig
from jaxdl.run.command.flags import FlagError, flags_of, nearest, parse
from jaxdl.run.command.use import Loaded, open_finished
from jaxdl.run.show.claims import number
from jaxdl.run.show.pictures import image_grid
from jaxdl.run.show.report import log
from jaxdl.run.store.files import read_json, replacing, write, write_json
from jaxdl.run.store.folder import check_same
from jaxdl.run.store.runs import format_table as aligned
from jaxdl.streams import printable

SHOWN = 20  # rows of predictions on the screen
LONG = 60  # characters of a cell on the screen; the file has all
DRAWN = 64  # images in the picture of predictions


def use_run(config: RunConfig, module: Any, name: str) -> None:
    """What --predict and --evaluate do.

    Args:
      config: the run's own, with what the command line says of its use, and its folder in `workdir`.
      module: the experiment.
      name: what its runs are called.

    Raises:
      FlagError: no run is named, or it is one of another experiment, or the experiment cannot do this.
      MissingData, DataError: of the run or of the files.
    """
    if not config.workdir:
        raise FlagError(f"--{'predict' if config.predict else 'evaluate'}: name the run to use, --workdir=RUN")
    check_same(config, name)
    flags = {flag: getattr(config, flag) for flag in of_use(type(config))}
    run = open_finished(config.workdir, module, expected=name, **flags)
    if config.predict:
        write_predictions(run, expand(config.predict, run.inference.words))
    if config.evaluate:
        write_evaluation(run, config.evaluate)


def of_use(config_class: type) -> list[str]:
    """The flags that say where and how a finished run is used."""
    used = [f.name for f in flags_of(config_class) if f.rule.group == "use"]
    return ["data_dir", "devices", "progress", *used]


def with_flags(run: Loaded, words: Sequence[str]) -> Loaded:
    """The same run with flags of its use, as a command line has them: --temperature=0.5.

    Raises:
      FlagError: a flag that is none, or one that says what the run is.
    """
    names = of_use(type(run.config))

    def checked(given: dict[str, Any]) -> Any:
        for name in given:
            if name not in names:
                raise FlagError(
                    f"--{name}: says what a run is; of its use the nearest flag is --{nearest(name, names)}"
                )
        return run.config

    return run.using(parse(type(run.config), words, checked))


def expand(words: str, literally: bool = False) -> list[str]:
    """Files, folders and patterns, separated by commas -> paths that exist; one path may have commas in its name.

    `literally`: what names no file stands for itself, unless it looks like a path.
    """
    if os.path.exists(words):
        return [words]
    found, missing = [], []
    for word in words.split(","):
        paths = [word] if os.path.exists(word) else sorted(glob.glob(word, recursive=True))
        found += paths
        missing += [] if paths else [word]
    if literally and not found and " " not in words.strip() and (os.sep in words or Path(words).suffix[1:].isalpha()):
        literally = False  # a path that is spelled wrongly, not a prompt
    if literally and not found:
        return [words]
    if missing:
        told = "give files, folders or patterns, separated by commas"
        raise MissingData(f"--predict={missing[0]}: no such file; {told}")
    return found


def write_predictions(run: Loaded, inputs: list[str]) -> None:
    """Writes the predictions as a CSV file, and as pictures where they are images; shows the first rows."""
    if run.inference.read is None or run.outputs_of is None:
        raise FlagError("--predict: this experiment predicts nothing for files")
    out = Path(run.config.out or Path(run.config.workdir) / "predictions.csv")
    if out.suffix != ".csv":
        raise FlagError(f"--out={out}: must end in .csv")
    names, rows = run.inference.read(inputs)
    outputs = run.outputs(rows)
    told = []
    columns = run.inference.table(outputs) if run.inference.table is not None else {}
    if columns:
        lines = [["input", *columns], *map(list, zip(names, *columns.values(), strict=True))]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        say, shown = run.inference.say, lines[: SHOWN + 1]
        print(say(names, outputs) if say else aligned(list(map(_short, shown))), flush=True)
        write(out, text.getvalue())
        more = f"{len(names) - SHOWN:,} more rows and " if len(names) > SHOWN and not say else ""
        told.append(f"{more}all columns in {out}")
    images = run.inference.images(outputs) if run.inference.images is not None else None
    if images is not None:
        told.append(_save_images(out, images))
    log(f"{'; '.join(told)}{'' if len(run.states) == 1 else f', by the first of {len(run.states)} seeds'}")


def _short(line: list[Any]) -> list[str]:
    """The cells of a line as the screen has room for them; of an input's name the end, where paths differ."""
    name, *cells = (printable(str(cell).replace("\n", "⏎")) for cell in line)
    name = name if len(name) <= LONG else f"…{name[1 - LONG :]}"
    return [name, *(cell if len(cell) <= LONG else f"{cell[: LONG - 1]}…" for cell in cells)]


def _save_images(out: Path, images: np.ndarray) -> str:
    picture, array = out.with_suffix(".png"), out.with_suffix(".npy")
    with replacing(picture) as file:
        image_grid(images[:DRAWN]).savefig(file, format="png", dpi=120)
    with replacing(array) as file:
        np.save(file, images)
    return f"{len(images):,} images in {array}, the first of them drawn in {picture}"


def write_evaluation(run: Loaded, source: str) -> None:
    """Shows the run's scores on another data set beside those of its own test set; adds them to evaluations.json."""
    test = run.test(source)
    found = run.evaluate(test)
    path = Path(run.config.workdir) / "evaluations.json"
    print(f"{'':14}{'on ' + printable(source):>24}{'on its own test set':>24}")
    for name in found[0]:
        cells = [number([m[name] for m in those]) if all(name in m for m in those) else "-"
                 for those in (found, run.metrics)]  # fmt: skip
        print(f"{name:14}{cells[0]:>24}{cells[1]:>24}", flush=True)
    write_json(path, (read_json(path) or {}) | {source: found})
    log(f"{test.length:,} rows; added to {path}")
