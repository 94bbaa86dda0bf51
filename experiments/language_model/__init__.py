"""Character language model: an RNN, GRU, LSTM or Transformer predicts the next character of a text.

The task behind every large language model, at a size that trains on a laptop: learn p(next character | text so far),
score it by perplexity and sample from it. The experiment compares the perplexity with bigram counts and checks that no
prediction depends on later characters and that probabilities sum to one.

The loss is the mean cross-entropy over the characters of a window,
    L = -1/T sum_t log p(x_t | x_<t),        perplexity = exp(L)
Recurrent cells read the text in parallel streams and carry their state from batch to batch, with the gradient cut
between batches (truncated back-propagation). The Transformer reads random windows. Validation and test read a whole
part of the text, in windows of T (Transformer) or 16 T (recurrent cells), each from an empty memory.

    python -m experiments.language_model                              # a Transformer on Python's own documentation
    python -m experiments.language_model --workdir=RUN --predict="The prompt" --length=300 --temperature=0.5
    python -m experiments.language_model --cell=lstm --text=FILE --steps=5000 --dropout=0.2 --parameters=1000000
    python -m experiments.language_model --dataset=tinyshakespeare --layers=4 --features=128 --batch_size=12 \\
        --steps=2000 --learning_rate=1e-3 --data_dir=DATA             # nanoGPT's small setting, where it prints 1.88

Elman 1990; Hochreiter and Schmidhuber 1997; Cho et al. 2014
(arXiv:1406.1078); Vaswani et al. 2017 (arXiv:1706.03762).
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.language_model import checks
from experiments.language_model.use import inference_of
from jaxdl import run
from jaxdl.core import (
    Experiment,
    Learner,
    State,
    WeightedSum,
    make_update,
    split_over_devices,
    weighted_mean,
    weighted_sum,
)
from jaxdl.data import TEXTS, Batches, Data, first_windows, load_text, streams, windows
from jaxdl.losses import softmax_cross_entropy
from jaxdl.methods import (
    LanguageModel,
    nearest_width,
    ngram_perplexities,
    of_recurrent,
    of_transformer,
    parameter_count,
)
from jaxdl.metrics import accuracy
from jaxdl.nn import GPT, RecurrentLM
from jaxdl.run import Claim, Quantity, flag, pictures

FAMILY = "language"
FIGURE = "perplexity"  # shown on the page of results
HEADS = 4
TRANSFORMER = ("cell", ("transformer",))  # the cell that some flags need
CELLS = {"rnn": "J01", "gru": "J03", "lstm": "J04", "transformer": "J11"}
NAMES = {"rnn": "An RNN", "gru": "A GRU", "lstm": "An LSTM", "transformer": "A Transformer"}
CLAIMS = {
    cell: Claim(f"{NAMES[cell]} has a lower perplexity than bigram counts", row, cell == "transformer",
                flags=f"--cell={cell} --seeds=3")
    for cell, row in CELLS.items()
} | {
    "causal": Claim("Predictions depend on all earlier characters and on no later ones", "K12"),
    "normalised": Claim("The probabilities of all strings of two characters sum to one", "L07"),
    "ends": Claim("A uniform guess has the number of characters as its perplexity, a certain prediction one", "C14"),
}  # fmt: skip
SMALL = {
    "parameters": 30_000,
    "layers": 1,
    "context": 32,
    "steps": 500,
}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment."""

    cell: str = flag("transformer", "network", choices=tuple(CELLS))
    dataset: str = flag("python_docs", "text; all but python_docs are read from --data_dir", choices=TEXTS,
                        needs=("text", (None,)))  # fmt: skip
    text: str | None = flag(None, "any UTF-8 file, instead of --dataset")
    context: int = flag(64, "window length T in characters", minimum=4)
    layers: int = flag(2, "recurrent layers or Transformer blocks", minimum=1)
    parameters: int = flag(200_000, "number of weights; the width that comes closest is chosen", minimum=1,
                           needs=("features", (None,)))  # fmt: skip
    features: int | None = flag(None, "width, instead of --parameters; a multiple of 4 for a Transformer", minimum=1)
    position: str = flag("learned", "positional encoding of a Transformer", choices=("learned", "sinusoidal", "none"),
                         needs=TRANSFORMER)  # fmt: skip
    dropout: float = flag(0.0, "dropout rate", minimum=0, less_than=1)
    length: int = flag(400, "characters to generate after a prompt", group="use", minimum=1, affects_result=False)
    temperature: float = flag(0.8, "sampling temperature; below 1 favours likely characters, 0 takes the likeliest",
                              group="use", minimum=0, affects_result=False)  # fmt: skip
    top_k: int | None = flag(None, "sample from the k likeliest characters", group="use", minimum=1, shown="all",
                             affects_result=False)  # fmt: skip
    draw_seed: int = flag(0, "seed of the samples", group="use", minimum=0, affects_result=False)
    precision: str = flag("float32", "dtype of the computation in training; weights stay float32", group="devices",
                          choices=("float32", "bfloat16"))  # fmt: skip
    remat: bool = flag(False, "recompute a Transformer's blocks in the backward pass to save memory", group="devices",
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
        if self.cell == "transformer" and (self.features or 0) % HEADS:
            raise run.FlagError(f"--features={self.features}: must be a multiple of {HEADS} for a Transformer")


def make_model(config: Config, vocabulary: int) -> LanguageModel:
    """Builds the network at the width of `--features`, or at the width closest to `--parameters`."""
    V, T, L = vocabulary, config.context, config.layers

    def make(width: int) -> LanguageModel:
        if config.cell == "transformer":
            options: Any = {"use_bias": False, "position": config.position, "remat": config.remat}
            return of_transformer(GPT(V, T, L, HEADS, width, config.dropout, **options))
        return of_recurrent(RecurrentLM(V, config.cell, width, L, config.dropout))

    return make(config.features or nearest_width(make, config.parameters, HEADS))


def data(config: Config) -> Data:
    """Returns training windows, or streams for a recurrent cell; validation and test parts as consecutive windows."""
    text = load_text(config.dataset, config.data_dir, file=config.text, valid=config.valid_fraction)
    if (config.top_k or 0) > len(text.vocabulary):
        most = len(text.vocabulary)
        raise run.FlagError(f"--top_k={config.top_k}: must be at most {most}, the number of different characters")
    size, T = config.batch_size, config.context
    train, length = (windows, T) if config.cell == "transformer" else (streams, 16 * T)
    whole = lambda tokens: windows(tokens, length, size, stride=length)
    try:
        parts = train(text.train, T, size), None if text.valid is None else whole(text.valid), whole(text.test)
    except ValueError as error:
        raise run.FlagError(f"--context={T}, --batch_size={size}: {error}") from None
    return Data(*parts, text.note, {"vocabulary": text.vocabulary})


class Reader(State):
    """The network and its memory of the characters before the next batch."""

    learner: Learner
    memory: Any = split_over_devices()

    @property
    def variables(self) -> Any:
        """The parameters to apply the model with."""
        return self.learner.averaged


def build(config: Config, data: Data) -> Experiment:
    """Builds a network that predicts log p(x_t+1 | x_0 ... x_t) [B, T, V] from an empty memory."""
    example, tx = data.example, config.make_optimizer(data)
    model, rows = make_model(config, len(data.facts["vocabulary"])), len(example["x"])

    def init(key: Array) -> Reader:
        return Reader.create(key, learner=Learner.create(model.init(key, example["x"]), tx), memory=model.memory(rows))

    def loss(params: Any, memory: Any, batch: Any, key: Array) -> tuple[Array, Any]:
        logits, memory = model.read(params, batch["x"], memory, True, {"dropout": key})
        value = weighted_mean(softmax_cross_entropy(logits.astype(jnp.float32), batch["y"]))
        return value, (memory, {"loss": value})

    update = make_update(loss, tx, precision=config.precision)

    def step(state: Reader, batch: Any) -> tuple[Reader, dict[str, Array]]:
        forget = lambda h: jnp.where(jnp.expand_dims(batch["fresh"], tuple(range(1, h.ndim))), 0, h)
        learner, (memory, metrics) = update(state.learner, jax.tree.map(forget, state.memory), batch, state.step_key())
        return state.advance(learner=learner, memory=memory), metrics

    def evaluate(state: Reader, batch: Any) -> dict[str, WeightedSum]:
        logits, _ = model.read(state.variables, batch["x"], model.memory(len(batch["x"])))
        where = jnp.broadcast_to(batch["mask"].reshape(len(logits), -1), batch["y"].shape)
        values = {"loss": softmax_cross_entropy(logits, batch["y"]), "accuracy": accuracy(logits, batch["y"])}
        return {name: weighted_sum(value, where) for name, value in values.items()}

    predict = lambda state, batch: model.log_probabilities(state.variables, batch["x"])
    return Experiment(init, step, evaluate, summarize, predict, model)


def summarize(sums: dict[str, WeightedSum]) -> dict[str, float]:
    """Returns the loss in nats per character, the accuracy, and the perplexity exp(loss), inf on overflow."""
    loss, correct = (float(sums[name].sum / sums[name].weight) for name in ("loss", "accuracy"))
    return {"loss": loss, "accuracy": correct, "perplexity": math.exp(loss) if loss < 709 else math.inf}


def inference(config: Config, data: Data) -> run.Inference:
    """Continues prompts, and evaluates the loss on other texts."""
    vocabulary, length = data.facts["vocabulary"], config.context * (1 if config.cell == "transformer" else 16)
    return inference_of(config, vocabulary, make_model(config, len(vocabulary)), length)


def fitted(config: Config, name: str) -> run.Result:
    """Trains one configuration in workdir/name."""
    parts = data(config)
    return run.fit(build(config, parts), parts, config, name=name)


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains, samples, plots, and checks what holds for every language model."""
    result, vocabulary = run.fit(build(config, data), data, config), data.facts["vocabulary"]
    draw_samples(config, result, vocabulary, data.test.arrays["tokens"][0])
    test = data.test.arrays["tokens"]
    counted, dots = (
        ngram_perplexities(data.train.arrays["tokens"], part.arrays["tokens"], len(vocabulary))
        for part in (data.test, data.valid or data.test)
    )
    fits, rows = {config.cell: result}, first_windows(test, min(64, config.context), 1024)
    run.save_figure(config, "perplexity", lambda: pictures.perplexity(fits, rows, dots))
    below = Quantity("test perplexity", result.values("perplexity"), "<", counted["bigram"])
    weights = Quantity("weights", parameter_count(result.state.learner.params))
    reference = {f"{name} counts, same text": value for name, value in counted.items()}
    yield run.measured(config.cell, below, weights, reference=reference)
    read = lambda tokens: result.predict(Batches({"x": tokens}, min(256, len(tokens))))
    yield from checks.checks(read, first_windows(test, config.context, 8)["x"], len(vocabulary))


def draw_samples(config: Config, result: run.Result, vocabulary: str, first: Any) -> None:
    """Writes three samples that begin with the same token to samples.txt, and logs the first."""
    options: dict[str, Any] = {"temperature": config.temperature, "top_k": config.top_k or 0}
    sample, key = result.experiment.model.sample, jax.random.key(config.draw_seed)
    draw = lambda state, batch: sample(state.variables, batch["x"], config.length, key, **options)
    rows = run.map_batches(draw, result.state, Batches({"x": np.full((3, 1), first)}, 3))
    texts = ["".join(vocabulary[i] for i in row) for row in rows]
    run.save_text(config, "samples", f"\n{'-' * 80}\n".join(texts))
    run.log(f"sample at temperature {config.temperature:g} (more in samples.txt):\n{texts[0]}")
