"""A trained language model on new texts: continuations of prompts, and the loss on other texts."""

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import run
from jaxdl.data import TEXTS, Batches, DataError, load_text, read_text, windows
from jaxdl.methods import LanguageModel

PLAIN = dict(zip("‘’‚“”„«»–—−…", '\'\'\'"""""---.', strict=True))  # typographic characters and their plain forms


def encoded(text: str, vocabulary: str, source: str) -> np.ndarray:
    """Returns tokens int32 [T]; logs which unknown characters are replaced by similar known ones."""
    numbers = {character: i for i, character in enumerate(vocabulary)}
    unknown = Counter(character for character in text if character not in numbers)
    read = {character: like(character, vocabulary) for character in unknown}
    if unknown:
        listed = ", ".join(f"{c!r} as {read[c]!r} ({n:,}x)" for c, n in unknown.most_common(8))
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        run.log(f"{source:.60}: characters outside the vocabulary are replaced: {listed}{more}")
    return np.array([numbers[read.get(character, character)] for character in text], np.int32)


def like(character: str, vocabulary: str) -> str:
    """Returns a known character for an unknown one: without its accent, in the other case, or a space."""
    plain = unicodedata.normalize("NFKD", PLAIN.get(character, character))[0]
    return next(c for c in (plain, plain.swapcase(), " ", "\n", vocabulary[0]) if c in vocabulary)


def inference_of(config: Any, vocabulary: str, model: LanguageModel, length: int) -> run.Inference:
    """Returns how a trained model is used; of a prompt or text it reads the last `length` characters."""
    V, new = len(vocabulary), config.length
    if (config.top_k or 0) > V:
        raise run.FlagError(f"--top_k={config.top_k}: must be at most {V}, the size of the model's vocabulary")

    def encode(prompts: Any) -> Batches:
        """Encodes one or several prompts: "x" [B, T], padded at the end, and their lengths "n" [B]."""
        texts = [prompts] if isinstance(prompts, str) else list(prompts) if isinstance(prompts, (list, tuple)) else []
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise run.FlagError(f"predict: needs a non-empty text or a list of such texts, got {prompts!r:.60}")
        rows = [encoded(text, vocabulary, text)[-length:] for text in texts]
        n = np.array([len(row) for row in rows], np.int32)
        return Batches({"x": np.stack([np.pad(row, (0, n.max() - len(row))) for row in rows]), "n": n}, min(64, len(n)))

    def read(words: list[str]) -> tuple[list[str], Batches]:
        texts = [read_text(word) if Path(word).is_file() else word for word in words]
        if empty := [word for word, text in zip(words, texts, strict=True) if not text]:
            raise DataError(f"{empty[0]}: is empty; a prompt needs at least one character")
        return words, encode([text[-4 * length :] for text in texts])

    def predict(state: Any, batch: Any) -> Any:
        x, n, T = batch["x"], batch["n"], batch["x"].shape[1]
        behind = jnp.pad(x[:, 1:], ((0, 0), (0, new)))  # the rest of each prompt is given, not sampled
        given = behind, jnp.arange(T - 1 + new)[None] < n[:, None] - 1
        options: dict[str, Any] = {"temperature": config.temperature, "top_k": config.top_k or 0, "given": given}
        key = jax.random.key(config.draw_seed)
        text = model.sample(state.variables, x[:, :1], T - 1 + new, key, **options)
        return jnp.take_along_axis(text, n[:, None] - 1 + jnp.arange(new)[None], 1)

    decode = lambda tokens: ["".join(vocabulary[i] for i in row) for row in tokens]

    def say(names: list[str], tokens: np.ndarray) -> str:
        texts = [name + text if not Path(name).is_file() else f"{name}: ...{text}"
                 for name, text in zip(names, decode(tokens), strict=True)]  # fmt: skip
        return f"\n{'-' * 80}\n".join(texts)

    def test(source: str) -> Batches:
        if source in TEXTS:
            other = load_text(source, config.data_dir)
            text = other.decode(other.test)
        elif Path(source).is_file():
            text = read_text(source)
        else:
            raise run.FlagError(f"--evaluate={source}: must be a file or one of {', '.join(TEXTS)}")
        try:
            return windows(encoded(text, vocabulary, source), length, config.batch_size, stride=length)
        except ValueError as error:
            raise DataError(str(error) if source in str(error) else f"{source}: {error}") from None

    table = lambda tokens: {"continuation": decode(tokens)}
    return run.Inference(read, encode, predict, decode, table, say, words=True, test=test)
