"""Language models of equally many weights on one text: gates, depth, attention and positions, each with and without.

Seven fits of `language_model` with the same optimiser, steps and size of a batch: an RNN, a GRU, an LSTM of two layers
and of one, and a Transformer with learned, with sinusoidal and without positions. The width of each is chosen so that
its number of weights comes nearest to --parameters.

    python -m experiments.language_model_comparison
    python -m experiments.language_model_comparison --dataset=tinyshakespeare --parameters=800000 --layers=4 \\
        --steps=2000 --data_dir=DATA

Sources as in `language_model`.
"""

from collections.abc import Iterator
from dataclasses import asdict

from experiments import language_model
from jaxdl import run
from jaxdl.data import Data, first_windows
from jaxdl.methods import ngram_perplexities, parameter_count
from jaxdl.run import Claim, Quantity, flag, pictures

FAMILY = "language"
FIGURE = "perplexity"  # the one that the results page shows
SHORT = "in 500 steps it is not, in none of ten seeds"
CLAIMS = {
    "gru": Claim("gates: at as many weights a GRU's perplexity is below an RNN's", "J03", headline=True),
    "lstm": Claim("gates: at as many weights an LSTM's perplexity is below an RNN's", "J04", fails=SHORT),
    "depth": Claim("depth: at as many weights an LSTM of two layers is near one of one layer", "J05"),
    "attention": Claim("attention: a Transformer's perplexity is below recurrent nets'", "J11", fails=SHORT),
    "speed": Claim("a Transformer makes more steps a second than recurrent nets", "J11",
                   fails="a matter of hardware: on two CPU cores short windows favour recurrent nets"),
    "sinusoidal": Claim("positions made by hand are better than none", "K08"),
    "learned": Claim("learned positions are better than none", "K08", headline=True),
}  # fmt: skip
SMALL: dict[str, object] = {}  # smaller nets on fewer steps rank otherwise


class Config(language_model.Config):
    """Flags of this experiment."""

    cell: str = flag("all", "networks; here each has its turn", choices=("all",))
    position: str = flag("all", "how a Transformer sees order; here each has its turn", choices=("all",))
    remat: bool = flag(False, "compute a Transformer's blocks anew in the backward pass: less memory", group="devices")
    steps: int | None = 500
    warmup: int = 125  # after 100 steps two Transformers of ten seeds lie 200 steps behind the others


def variants(config: Config) -> dict[str, language_model.Config]:
    """The fits, by name."""
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
    """The windows that a Transformer reads; recurrent cells read streams of the same text."""
    return language_model.data(variants(config)["transformer"])


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """The first of each comparison against the others."""
    fits = {name: language_model.fitted(chosen, name) for name, chosen in variants(config).items()}
    read, seen = (part.arrays["tokens"] for part in (data.train, data.valid or data.test))
    counted = ngram_perplexities(read, seen, len(data.facts["vocabulary"]))
    rows = first_windows(data.test.arrays["tokens"], min(64, config.context), 1024)
    run.save_figure(config, "perplexity", lambda: pictures.perplexity(fits, rows, counted))

    found = {name: fit.metrics["perplexity"] for name, fit in fits.items()}
    told = {name: fit.values("perplexity") for name, fit in fits.items()}
    weights = lambda name: Quantity("weights", parameter_count(fits[name].state.learner.params))

    def below(claim: str, first: str, *others: str) -> run.Finding:
        under = [Quantity(f"minus {name.replace('_', ' ')}'s", found[first] - found[name], "<", 0) for name in others]
        reference = {f"{name.replace('_', ' ')}, as many weights": told[name] for name in others}
        return run.measured(claim, Quantity("perplexity", told[first]), *under, weights(first), reference=reference)

    yield below("gru", "gru", "rnn")
    yield below("lstm", "lstm", "rnn")
    apart = Quantity("relative difference", abs(found["lstm"] / found["lstm_of_1_layer"] - 1), "<", 0.1)
    yield run.measured(
        "depth", Quantity("two layers", told["lstm"]), apart, reference={"one layer": told["lstm_of_1_layer"]}
    )
    yield below("attention", "transformer", "rnn", "gru", "lstm")
    fastest = max(fits[cell].steps_per_second for cell in ("rnn", "gru", "lstm"))
    ratio = fits["transformer"].steps_per_second / fastest
    yield run.measured("speed", Quantity("steps a second", ratio, ">", 1, "times the fastest recurrent net's"))
    yield below("sinusoidal", "sinusoidal_transformer", "transformer_without_positions")
    yield below("learned", "transformer", "transformer_without_positions")


if __name__ == "__main__":
    run.main()
