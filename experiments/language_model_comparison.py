"""Language models of equally many weights on one text: gates, depth, attention and positions, each with and without.

Seven fits of `language_model` with the same optimiser, steps and size of a batch: an RNN, a GRU, an LSTM of two layers
and of one, and a Transformer with learned, with sinusoidal and without positions. The width of each is chosen so that
its number of weights comes nearest to --parameters.

    python -m experiments.language_model_comparison
    python -m experiments.language_model_comparison --dataset=tinyshakespeare --parameters=800000 --layers=4 \\
        --steps=2000 --data_dir=DATA

Mission rows J03, J04, J05, J11 and K08. Sources as in `language_model`.
"""

from dataclasses import dataclass

from experiments import language_model
from experiments._language_pictures import picture
from experiments.language_model import Trained, load, trained
from jaxdl import run
from jaxdl.run import Bound, Claim, flag

SMALL: dict[str, object] = {}  # smaller nets on fewer steps rank otherwise


@dataclass(frozen=True, kw_only=True)
class Config(language_model.Config):
    """Flags of this experiment."""

    cell: str = flag("all", "networks; here each has its turn", choices=("all",))
    position: str = flag("all", "how a Transformer sees order; here each has its turn", choices=("all",))
    remat: bool = flag(False, "compute a Transformer's blocks anew in the backward pass: less memory", group="devices")
    steps: int | None = 500
    warmup: int = 125  # after 100 steps two Transformers of ten seeds lie 200 steps behind the others


def variants(config: Config) -> dict[str, language_model.Config]:
    """The fits, by name."""
    alone = {field: value for field, value in vars(config).items() if field not in ("cell", "position", "remat")}
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


def main(config: Config) -> list[Claim]:
    """Trains, draws and reports."""
    text = load(config)
    run.say(text.note)
    fits = {name: trained(chosen, text, name) for name, chosen in variants(config).items()}
    run.save_figure(config, "perplexity", lambda: picture(fits, text))
    return claims(fits)


def claims(fits: dict[str, Trained]) -> list[Claim]:
    """The first of each comparison against the others; what is not expected holds for longer runs or not at all."""

    def compare(row: str, claim: str, first: str, *others: str, expected: bool = True) -> Claim:
        perplexity = {name: fits[name].result.metrics["perplexity"] for name in (first, *others)}
        told = ", ".join(f"{name.replace('_', ' ')} {fits[name].told()}" for name in others)
        under = [Bound(perplexity[first] - perplexity[name], "<", 0.0, f"{first} under {name}") for name in others]
        holds, source = all(bound.holds for bound in under), "same text and steps"
        return Claim(row, f"{claim} (perplexity)", fits[first].told(), told, source, holds, expected, bounds=under)

    cells = ("rnn", "gru", "lstm", "transformer")
    speed = {cell: fits[cell].result.steps_per_second for cell in cells}
    others = ", ".join(f"{cell} {speed[cell]:.0f}" for cell in cells[:-1])
    none = "transformer_without_positions"
    two, one = (fits[name].result.metrics["perplexity"] for name in ("lstm", "lstm_of_1_layer"))
    apart = Bound(abs(two / one - 1), "<", 0.1, "|lstm / lstm_of_1_layer - 1|")
    return [
        compare("J03", "gates: GRU below RNN", "gru", "rnn"),
        compare("J04", "gates: LSTM below RNN", "lstm", "rnn", expected=False),
        Claim("J05", "depth: at as many weights an LSTM of two layers is within a tenth of one (perplexity)",
              fits["lstm"].told(), f"lstm of 1 layer {fits['lstm_of_1_layer'].told()}", "same text and steps",
              apart.holds, bounds=[apart]),
        compare("J11", "Transformer below recurrent nets", "transformer", *cells[:-1], expected=False),
        Claim("J11", "Transformer faster than recurrent nets (steps/s)", f"{speed['transformer']:.0f}", others,
              "same run", speed["transformer"] > max(speed[cell] for cell in cells[:-1]), False),
        compare("K08", "hand-made positions below none", "sinusoidal_transformer", none),
        compare("K08", "learned positions below none", "transformer", none),
    ]  # fmt: skip


if __name__ == "__main__":
    run.main(Config, main)
