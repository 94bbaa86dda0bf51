"""Language models with equal numbers of weights: the effect of gates, depth, attention and positions.

Which part of an architecture helps is visible only if everything else is equal. The experiment trains seven language
models with the same text, optimiser, steps and number of weights and compares their perplexities: with and without
gates, one and two layers, recurrence and attention, with and without positions.

The models are an RNN, a GRU, LSTMs of two layers and of one, and Transformers with learned, sinusoidal and no
positions. The width of each is chosen so that its number of weights comes closest to --parameters.

    python -m experiments.language_model_comparison
    python -m experiments.language_model_comparison --dataset=tinyshakespeare --parameters=800000 --layers=4 \\
        --steps=2000 --data_dir=DATA

Sources: see `language_model`.
"""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from experiments import language_model
from jaxdl import run
from jaxdl.data import Data, first_windows
from jaxdl.methods import ngram_perplexities, parameter_count
from jaxdl.run import Claim, Quantity, flag, pictures

FAMILY = "language"
FIGURE = "perplexity"  # shown on the page of results
SHORT = "not within 500 steps, in none of ten seeds"
CLAIMS = {
    "gru": Claim("A GRU has a lower perplexity than an RNN with as many weights", "J03", headline=True,
                 flags="--seeds=3"),
    "lstm": Claim("An LSTM has a lower perplexity than an RNN with as many weights", "J04", fails=SHORT),
    "depth": Claim("LSTMs of one and two layers with as many weights have similar perplexities", "J05"),
    "attention": Claim("A Transformer has a lower perplexity than recurrent networks with as many weights", "J11",
                       fails=SHORT),
    "speed": Claim("A Transformer trains more steps per second than recurrent networks", "J11",
                   fails="two CPU cores and short windows favour recurrent networks"),
    "sinusoidal": Claim("Sinusoidal positions lower a Transformer's perplexity", "K08"),
    "learned": Claim("Learned positions lower a Transformer's perplexity", "K08", headline=True),
}  # fmt: skip
SMALL: dict[str, object] = {}  # smaller networks and fewer steps change the ranking


class Config(language_model.Config):
    """Flags of this experiment."""

    cell: str = flag("all", "networks; this experiment trains all of them", choices=("all",))
    position: str = flag("all", "positional encodings; this experiment trains all of them", choices=("all",))
    remat: bool = flag(False, "recompute a Transformer's blocks in the backward pass to save memory", group="devices")
    steps: int | None = 500
    warmup: int = 125  # with 100, two Transformers of ten seeds are 200 steps behind the others


def variants(config: Config) -> dict[str, language_model.Config]:
    """Returns the configurations of the fits, by name."""
    alone = {name: value for name, value in asdict(config).items() if name not in ("cell", "position", "remat")}
    make = lambda cell, **changes: language_model.Config(**alone | {"cell": cell} | changes)
    transformer = lambda position: make("transformer", position=position, remat=config.remat)
    return {
        "rnn": make("rnn"),
        "gru": make("gru"),
        "lstm": make("lstm"),
        "lstm_of_1_layer": make("lstm", layers=1),
        "transformer": transformer("learned"),
        "sinusoidal_transformer": transformer("sinusoidal"),
        "transformer_without_positions": transformer("none"),
    }


def data(config: Config) -> Data:
    """Returns a Transformer's windows; recurrent cells read streams of the same text."""
    return language_model.data(variants(config)["transformer"])


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains all models and measures each comparison."""
    fits = {name: language_model.fitted(chosen, name) for name, chosen in variants(config).items()}
    train, held_out = (part.arrays["tokens"] for part in (data.train, data.valid or data.test))
    counted = ngram_perplexities(train, held_out, len(data.facts["vocabulary"]))
    rows = first_windows(data.test.arrays["tokens"], min(64, config.context), 1024)
    run.save_figure(config, "perplexity", lambda: pictures.perplexity(fits, rows, counted))

    found = {name: np.array(fit.values("perplexity")) for name, fit in fits.items()}  # [seeds]
    weights = lambda name: Quantity("weights", parameter_count(fits[name].state.learner.params))

    label = lambda name: {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}.get(
        name, name.replace("_", " ").replace("transformer", "Transformer")
    )

    def below(claim: str, first: str, *others: str) -> run.Finding:
        less = [Quantity(f"difference from {label(name)}", found[first] - found[name], "<", 0) for name in others]
        reference = {f"perplexity, {label(name)}": found[name] for name in others}
        perplexity = Quantity("test perplexity", found[first])
        return run.measured(claim, perplexity, *less, weights(first), reference=reference)

    yield below("gru", "gru", "rnn")
    yield below("lstm", "lstm", "rnn")
    two, one = found["lstm"], found["lstm_of_1_layer"]
    yield run.measured(
        "depth",
        Quantity("test perplexity, two layers", two),
        Quantity("relative difference", abs(two / one - 1), "<", 0.1),
        reference={"perplexity, one layer": one},
    )
    yield below("attention", "transformer", "rnn", "gru", "lstm")
    speed = {name: np.array([each.steps_per_second for each in fit.runs]) for name, fit in fits.items()}
    ratio = speed["transformer"] / np.max([speed[cell] for cell in ("rnn", "gru", "lstm")], 0)
    yield run.measured("speed", Quantity("steps/s, Transformer / fastest recurrent network", ratio, ">", 1, "times"))
    yield below("sinusoidal", "sinusoidal_transformer", "transformer_without_positions")
    yield below("learned", "transformer", "transformer_without_positions")


if __name__ == "__main__":
    run.main()
