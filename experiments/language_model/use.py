"""A trained language model on texts of a user's: what comes next in a file, and the loss on other texts."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxdl import run
from jaxdl.data import TEXTS, Batches, DataError, load_text, read_text, windows
from jaxdl.losses import softmax_cross_entropy
from jaxdl.methods import LanguageModel


def encoded(text: str, vocabulary: str, source: str) -> np.ndarray:
    """Tokens int32 [T]; DataError names the first character that the model has never seen, and its line."""
    numbers = {character: i for i, character in enumerate(vocabulary)}
    for at, character in enumerate(text):
        if character not in numbers:
            line = text.count("\n", 0, at) + 1
            raise DataError(f"{source}: line {line}: {character!r} is none of the {len(vocabulary)} characters of the "
                            "text that this model was trained on; take it out")  # fmt: skip
    return np.array([numbers[character] for character in text], np.int32)


def inference_of(config: Any, vocabulary: str, model: LanguageModel, length: int) -> run.Inference:
    """What a language model does after training; it sees the last `length` characters of a file."""

    def read(files: list[str]) -> tuple[list[str], Batches]:
        tokens = [encoded(read_text(file), vocabulary, file)[-length:] for file in files]
        padded = [np.pad(row, (0, length - len(row))) for row in tokens]
        return files, Batches({"x": np.stack(padded), "n": np.array([len(row) for row in tokens], np.int32)}, 64)

    def predict(state: Any, batch: Any) -> dict[str, Any]:
        logits, _ = model.read(state.variables, batch["x"], model.memory(len(batch["x"])))
        following = jnp.take_along_axis(logits, batch["n"][:, None, None] - 1, 1)[:, 0]
        losses = softmax_cross_entropy(logits[:, :-1], batch["x"][:, 1:])
        known = jnp.arange(1, length)[None] < batch["n"][:, None]
        return {"p": nn.softmax(following), "nats": (losses * known).sum(1), "n": batch["n"]}

    def table(outputs: dict[str, np.ndarray]) -> dict[str, Any]:
        best = np.argsort(-outputs["p"], axis=-1, kind="stable")[:, :5]
        likely = [
            " ".join(f"{vocabulary[i]!r} {row[i]:.3f}" for i in five)
            for row, five in zip(outputs["p"], best, strict=True)
        ]
        mean = outputs["nats"] / np.maximum(outputs["n"] - 1, 1)
        return {
            "next": [repr(vocabulary[five[0]]) for five in best],
            "probability": [f"{row.max():.4f}" for row in outputs["p"]],
            "characters read": list(outputs["n"]),
            "nats a character": [f"{x:.4f}" for x in mean],
            "perplexity": [f"{np.exp(x):.3f}" for x in mean],
            "five likeliest": likely,
        }  # fmt: skip

    def test(source: str) -> Batches:
        if source in TEXTS:
            other = load_text(source, config.data_dir)
            text = other.decode(other.test)
        elif Path(source).is_file():
            text = read_text(source)
        else:
            raise run.FlagError(f"--evaluate={source}: no such file, and no text of {', '.join(TEXTS)}")
        try:
            return windows(encoded(text, vocabulary, source), length, config.batch_size, stride=length)
        except ValueError as error:
            raise DataError(str(error) if source in str(error) else f"{source}: {error}") from None

    return run.Inference(read, predict=predict, table=table, test=test)
