"""TensorBoard's report of a run, in addition to curves: hyper-parameters with the last metrics, figures, texts."""

import shutil
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdl.run.show.report import log
from jaxdl.run.store.files import naming

FOLDER = "report"  # next to the curves of the run's own fit; rewritten each time
FLAGS = (bool, int, float, str)


def write_report(
    workdir: Path, flags: Mapping[str, Any], metrics: Mapping[str, float], texts: Mapping[str, str]
) -> None:
    """Writes workdir/tensorboard/report: hyper-parameters, the PNGs of the run, and texts as Markdown.

    Args:
      workdir: the run's folder.
      flags: its hyper-parameters; those that are not set are left out.
      metrics: {"test/accuracy": 0.98}, shown with them.
      texts: by title.
    """
    from PIL import Image
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    folder = workdir / "tensorboard" / FOLDER
    with naming(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        file = EventsWriter(str(folder / "events"))
        told = {name: value for name, value in flags.items() if isinstance(value, FLAGS)}
        found = list(summary.hparams(told, dict(metrics)))
        found.append(Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]))
        for path in sorted(workdir.rglob("*.png")):
            try:
                with Image.open(path) as image:
                    (width, height), content = image.size, path.read_bytes()
            except OSError as error:
                log(f"warning: {path}: not an image that TensorBoard can show ({str(error).partition(chr(10))[0]})")
                continue
            picture = Summary.Image(encoded_image_string=content, width=width, height=height, colorspace=4)
            found.append(Summary(value=[Summary.Value(tag=str(path.relative_to(workdir)), image=picture)]))
        # Markdown shows lines indented by four spaces verbatim
        found += [summary.text(title, textwrap.indent(text, "    ")) for title, text in texts.items()]
        for one in found:
            file.write_event(Event(step=0, wall_time=time.time(), summary=one))
        file.close()
