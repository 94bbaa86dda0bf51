"""What is drawn of language models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.data import Text, windows
from jaxdl.methods import ngram_losses
from jaxdl.run import plots


def first_windows(text: Text, T: int, most: int) -> dict[str, np.ndarray]:
    """The first windows of the test part, x and y [n, T]."""
    every = windows(text.test, T, 1, stride=T)
    return every.take(every.arrays, np.arange(min(most, max(1, (len(text.test) - 1) // T))))


def picture(fits: Mapping[str, Any], text: Text) -> Any:
    """Perplexity over training, and how the loss falls with the characters read before; fits are `Trained` by name.

    The first has lines for the training batches, dots for the validation part, or for the test part where no other is
    held out, and what counts reach on that part.
    """
    part, tokens = ("test", text.test) if text.valid is None else ("validation", text.valid)
    figure, (left, right) = plots.new_figure(11, 4.4, 1, 2)
    T = min(64, *(fit.context for fit in fits.values()))
    rows = first_windows(text, T, 1024)
    for name, fit in fits.items():
        steps, loss = fit.result.curve("train/loss")
        (line,) = left.plot(steps, np.exp(loss), label=name.replace("_", " "))
        seen = fit.result.curve("test/perplexity" if text.valid is None else "valid/perplexity")
        left.plot(*seen, "o", color=line.get_color(), markersize=4)
        found = fit.apply(fit.model.log_probabilities, rows["x"])
        right.plot(np.arange(1, T + 1), -np.take_along_axis(found, rows["y"][..., None], -1)[..., 0].mean(0))
    for name, loss in ngram_losses(text.train, tokens, len(text.vocabulary)).items():
        perplexity = np.exp(loss)
        left.axhline(perplexity, color="gray", linestyle="--", linewidth=1)
        left.annotate(
            name, (1, perplexity), (-2, 2), ("axes fraction", "data"), "offset points", ha="right", fontsize=8
        )
    left.set(xlabel="step", ylabel=f"perplexity (lines: training, dots: {part} part)", yscale="log")
    left.yaxis.set_minor_formatter("{x:g}")
    left.yaxis.set_major_formatter("{x:g}")
    right.set(xlabel="characters read since the memory was empty", ylabel="loss (nats a character)", xscale="log")
    right.xaxis.set_major_formatter("{x:g}")
    for axis in (left, right):
        axis.grid(alpha=0.25, which="both")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure
