"""A character language model: an RNN, GRU, LSTM or Transformer predicts the next character of a text.

Trained with the mean cross-entropy over the characters of a window,
    L = -1/T sum_t log p(x_t | x_<t),        perplexity = exp(L)
Recurrent cells read the text in parallel streams and keep their state from batch to batch, while the gradient stops
between batches (truncated back-propagation). The Transformer reads random windows and sees nothing outside. All are
validated and tested on whole parts of the text: the Transformer in windows of T, recurrent cells in windows of 16 T,
both from an empty memory. Samples are decoded from a cache or a state, one pass a character.

    python -m experiments.language_model                              # a Transformer on Python's own documentation
    python -m experiments.language_model --cell=lstm --text=FILE --steps=5000 --dropout=0.2 --parameters=1000000
    python -m experiments.language_model --dataset=tinyshakespeare --layers=4 --features=128 --batch_size=12 \\
        --steps=2000 --learning_rate=1e-3 --data_dir=DATA             # nanoGPT's small setting, which prints 1.88

Mission rows C14, J01, J03, J04, J11, K12 and L07. Elman 1990; Hochreiter and Schmidhuber 1997; Cho et al. 2014
(arXiv:1406.1078); Vaswani et al. 2017 (arXiv:1706.03762).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments import _language_use
from experiments._language_checks import causal, ends, normalised
from experiments._language_pictures import first_windows, picture
from jaxdl import run
from jaxdl.core import Experiment, Learner, State, Total, descend, mean, per_example, total
from jaxdl.data import TEXTS, Batches, Text, load_text, streams, windows
from jaxdl.losses import softmax_cross_entropy
from jaxdl.methods import LanguageModel, attentive, nearest_width, ngram_losses, parameter_count, recurrent
from jaxdl.metrics import accuracy
from jaxdl.nn import GPT, RecurrentLM
from jaxdl.run import Bound, Claim, flag

HEADS = 4
TRANSFORMER = ("cell", ("transformer",))  # with which some flags have an effect
ROWS = {"rnn": "J01", "gru": "J03", "lstm": "J04", "transformer": "J11"}
SMALL = {"parameters": 30_000, "layers": 1, "context": 32, "steps": 500}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment."""

    cell: str = flag("transformer", "network", choices=tuple(ROWS))
    dataset: str = flag("python_docs", "text; all but python_docs are files in --data_dir", choices=TEXTS,
                        needs=("text", (None,)))  # fmt: skip
    text: str | None = flag(None, "any UTF-8 file, instead of --dataset")
    context: int = flag(64, "characters of a window, T", low=4)
    layers: int = flag(2, "recurrent layers or Transformer blocks", low=1)
    parameters: int = flag(200_000, "weights; the width is chosen to come nearest", low=1,
                           needs=("features", (0,)))  # fmt: skip
    features: int = flag(0, "width instead of --parameters; of a Transformer a multiple of 4", low=0)
    position: str = flag("learned", "how a Transformer sees order", choices=("learned", "sinusoidal", "none"),
                         needs=TRANSFORMER)  # fmt: skip
    dropout: float = flag(0.0, "probability of dropping a unit", low=0, below=1)
    temperature: float = flag(0.8, "of the samples; below 1: likelier characters", low=0)
    top_k: int = flag(0, "sample among the k likeliest characters; 0: all", low=0)
    precision: str = flag("float32", "of the computation in training; weights stay float32", group="devices",
                          choices=("float32", "bfloat16"))  # fmt: skip
    remat: bool = flag(False, "compute a Transformer's blocks anew in the backward pass: less memory", group="devices",
                       needs=TRANSFORMER)  # fmt: skip
    batch_size: int = 32
    steps: int | None = 1500
    optimizer: str = "adamw"
    learning_rate: float = 1e-2
    weight_decay: float = 0.1
    beta2: float = 0.99
    clip_norm: float | None = 1.0
    schedule: str = "cosine"
    warmup: int = 100
    final_fraction: float = 0.1

    def __post_init__(self) -> None:
        """Raises FlagError for a value outside its range."""
        super().__post_init__()
        if self.cell == "transformer" and self.features % HEADS:
            raise run.FlagError(f"--features={self.features}: a Transformer's width must be a multiple of {HEADS}")


def make_model(config: Config, vocabulary: int) -> LanguageModel:
    """The network at the width asked for, or at that which comes nearest to `--parameters`."""
    V, T, L = vocabulary, config.context, config.layers

    def make(width: int) -> LanguageModel:
        if config.cell == "transformer":
            options: Any = {"use_bias": False, "position": config.position, "remat": config.remat}
            return attentive(GPT(V, T, L, HEADS, width, config.dropout, **options))
        return recurrent(RecurrentLM(V, config.cell, width, L, config.dropout))

    return make(config.features or nearest_width(make, config.parameters, HEADS))


def load(config: Config) -> Text:
    """The text that the flags name."""
    return load_text(config.dataset, config.data_dir, file=config.text, valid=config.valid_fraction)


def data(config: Config, text: Text | None = None) -> tuple[Batches, Batches | None, Batches]:
    """Training windows, or streams for a recurrent cell; and the whole of the validation and test part in windows."""
    text = text or load(config)
    size, T = config.batch_size, config.context
    train, length = (windows, T) if config.cell == "transformer" else (streams, 16 * T)
    whole = lambda tokens: windows(tokens, length, size, stride=length)
    try:
        return train(text.train, T, size), None if text.valid is None else whole(text.valid), whole(text.test)
    except ValueError as error:
        raise run.FlagError(f"--context={T}, --batch_size={size}: {error}") from None


class Reader(State):
    """The network, and what it remembers of the characters before the next batch."""

    learner: Learner
    memory: Any = per_example()


def build(config: Config, example: dict[str, Any], vocabulary: int | None = None) -> Experiment:
    """The experiment for batches of `example`'s shapes; without `vocabulary` that of the configured text."""
    if vocabulary is None:
        vocabulary = len(load(config).vocabulary)
    model, tx, rows = make_model(config, vocabulary), config.make_optimizer(), len(example["x"])

    def init(key: Array) -> Reader:
        return Reader.create(key, learner=Learner.create(model.init(key, example["x"]), tx), memory=model.memory(rows))

    def loss(params: Any, memory: Any, batch: Any, key: Array) -> tuple[Array, Any]:
        logits, memory = model.read(params, batch["x"], memory, True, {"dropout": key})
        value = mean(softmax_cross_entropy(logits.astype(jnp.float32), batch["y"]))
        return value, (memory, {"loss": value})

    update = descend(loss, tx, precision=config.precision)

    def step(state: Reader, batch: Any) -> tuple[Reader, dict[str, Array]]:
        forget = lambda h: jnp.where(jnp.expand_dims(batch["fresh"], tuple(range(1, h.ndim))), 0, h)
        learner, (memory, metrics) = update(state.learner, jax.tree.map(forget, state.memory), batch, state.rng())
        return state.advance(learner=learner, memory=memory), metrics

    def evaluate(state: Reader, batch: Any) -> dict[str, Total]:
        logits, _ = model.read(state.learner.params, batch["x"], model.memory(len(batch["x"])))
        where = jnp.broadcast_to(batch["mask"].reshape(len(logits), -1), batch["y"].shape)
        values = {"loss": softmax_cross_entropy(logits, batch["y"]), "accuracy": accuracy(logits, batch["y"])}
        return {name: total(value, where) for name, value in values.items()}

    return Experiment(init, step, evaluate, summarize)


def summarize(sums: dict[str, Total]) -> dict[str, float]:
    """Loss in nats a character, accuracy, and the perplexity exp(loss), infinite where no float64 holds it."""
    loss, right = (float(sums[name].sum / sums[name].count) for name in ("loss", "accuracy"))
    return {"loss": loss, "accuracy": right, "perplexity": math.exp(loss) if loss < 709 else math.inf}


def use(config: Config, about: dict[str, Any]) -> run.Use:
    """What comes next in a file, and the loss on other texts."""
    V, T = about["vocabulary"], config.context * (1 if config.cell == "transformer" else 16)
    model, experiment = make_model(config, len(V)), build(config, about["example"], len(V))
    return _language_use.use(config, V, model, experiment, T, lambda state: state.learner.params)


class Trained(NamedTuple):
    """A model and its fit."""

    model: LanguageModel
    result: run.Result
    context: int

    def apply(self, function: Callable[..., Array], tokens: np.ndarray) -> np.ndarray:
        """function(variables, tokens [B, T]) over all rows of tokens [n, T]."""
        rows = Batches({"x": tokens}, min(256, len(tokens)))
        return run.apply(lambda state, batch: function(state.learner.params, batch["x"]), self.result.state, rows)

    def told(self) -> str:
        """Perplexity, size and time."""
        weights = parameter_count(self.result.state.learner.params)
        perplexity = run.plus_minus(self.result.values("perplexity"))
        return f"{perplexity} ({weights:,} weights, {self.result.seconds:.0f} s)"


def trained(config: Config, text: Text, name: str = "") -> Trained:
    """The fit of one model."""
    train, valid, test = data(config, text)
    config, V = config.resolve(train), len(text.vocabulary)
    result = run.fit(build(config, train.example, V), train, valid, config, test=test, name=name)
    return Trained(make_model(config, V), result, config.context)


def main(config: Config) -> list[Claim]:
    """Trains, samples, draws and reports."""
    text = load(config)
    run.say(text.note)
    V = len(text.vocabulary)
    if config.top_k > V:
        raise run.FlagError(f"--top_k={config.top_k}: this text has only {V} different characters")
    counted = {name: math.exp(loss) for name, loss in ngram_losses(text.train, text.test, V).items()}
    run.remember(config, data(config, text)[0].example, vocabulary=text.vocabulary)
    fit = trained(config, text)
    options = {"temperature": config.temperature, "top_k": config.top_k}
    draw = lambda variables, x: fit.model.sample(variables, x, 400, jax.random.key(config.seed), **options)
    samples = [text.decode(row) for row in fit.apply(draw, np.repeat(text.test[None, :1], 3, 0))]
    run.save_text(config, "samples", f"\n{'-' * 80}\n".join(samples))
    run.say(f"a sample at temperature {config.temperature:g} (more in samples.txt):\n{samples[0]}")
    run.save_figure(config, "perplexity", lambda: picture({config.cell: fit}, text))

    beside = ", ".join(f"{name} {perplexity:.3f}" for name, perplexity in counted.items())
    claim = "perplexity below that of counting pairs"
    below = Bound(fit.result.metrics["perplexity"] - counted["bigram"], "<", 0.0, "under the bigram's")
    source, told = "counts on the same text", fit.told()
    out = [Claim(ROWS[config.cell], f"{config.cell}: {claim}", told, beside, source, below.holds, bounds=(below,))]
    for cell in ROWS:
        if cell != config.cell:
            command = f"python -m experiments.language_model --cell={cell}"
            out.append(Claim(ROWS[cell], f"{cell}: {claim}", "not measured", command=command))
    read = partial(fit.apply, fit.model.log_probabilities)
    tokens = first_windows(text, fit.context, 8)["x"]
    return [*out, causal(read, tokens, text), normalised(read, text), ends(text)]


if __name__ == "__main__":
    run.main(Config, main)
