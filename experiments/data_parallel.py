"""One training step on 1, 2, 4, ... devices: the same results, and how much sooner they are there.

The batch of B examples is split over n devices, each of which computes the gradient of its B / n; their mean is that of
the whole batch. With r(n) examples a second the speed-up is r(n) / r(1) and the efficiency r(n) / (n r(1)).
    jit: the compiler splits the step    pmap: each device runs it    fsdp: as jit, and the weights are split as well
Beside it: what compiling is worth, how long a call takes to return, and whether a seed settles a run to the last bit.

    ./launch.sh --cpu-devices=8 data_parallel                   # eight devices on the cores that there are
    python -m experiments.data_parallel --model=mlp             # every GPU or TPU core of this machine
    ./launch.sh --processes=2 --cpu-devices=4 data_parallel     # the same over two processes

Mission rows B24, S02, S04 and S05. Li et al. 2020, PyTorch Distributed (arXiv:2006.15704); Rajbhandari et al. 2020,
ZeRO (arXiv:1910.02054).
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from jaxdl import metrics, run
from jaxdl.core import Experiment, supervised
from jaxdl.data import Batches, load_images, unit
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import CNN, MLP
from jaxdl.run import Bound, Claim, flag, plots

MODELS: dict[str, Any] = {"cnn": lambda: CNN(classes=62), "mlp": lambda: MLP((512, 512, 62))}
MODES = ("jit", "pmap", "fsdp")
COMMAND = "./launch.sh --cpu-devices=8 data_parallel"
CLOSE = 1e-4  # relative, of the final test loss: sums in another order
SMALL = {"model": "mlp", "steps": 16}  # where the tests check the claims


@dataclass(frozen=True, kw_only=True)
class Config(run.RunConfig):
    """Flags of this experiment; --parallel and --devices are what it varies."""

    model: str = flag("cnn", "network on letters of 28x28 pixels", choices=MODELS)
    steps: int | None = 48
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    tensorboard: bool = False


def data(config: Config) -> tuple[Batches, Batches | None, Batches]:
    """Letters of matplotlib's fonts."""
    images, size = load_images("glyphs", valid=config.valid_fraction), config.batch_size
    valid = Batches(images.valid, size) if images.valid else None
    return Batches(images.train, size), valid, Batches(images.test, size)


def build(config: Config, example: dict[str, Any]) -> Experiment:
    """The classifier of 62 letters and digits."""
    return supervised(
        MODELS[config.model](),
        config.make_optimizer(),
        example=example,
        inputs=lambda batch: (unit(batch["x"]),),
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
        metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"])},
    )


def bits(state: Any) -> bytes:
    """All parameters, one after another."""
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(state.learner.params))


def main(config: Config) -> list[Claim]:
    """Trains on every number of devices in every mode, and reports."""
    train, valid, test = data(config)
    # eight parts of a run, of which the first, with the compilation, does not count for the speed
    config = replace(config.resolve(train), eval_every=max(1, (config.steps or 1) // 8), seeds=1)
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= jax.device_count() and config.batch_size % n == 0]
    if jax.process_count() > 1:
        counts = [jax.device_count()]  # a part of them would leave a process without any

    def fit(name: str, **changes: Any) -> run.Result:
        changed = replace(config, **changes)
        return run.fit(build(changed, train.example), train, valid, changed, test=test, name=name)

    fits = {
        (mode, n): fit(f"{mode}_{n}", parallel=mode, devices=n)
        for n in counts
        for mode in (MODES if n > 1 else MODES[:1])
    }
    again, other = (fit(name, parallel="jit", devices=counts[0], seed=seed) for name, seed in
                    (("again", config.seed), ("other_seed", config.seed + 1)))  # fmt: skip
    first = fits["jit", counts[0]]
    same, differs = bits(again.state) == bits(first.state), bits(other.state) != bits(first.state)
    found = (
        f"{'the same' if same else 'DIFFERENT'} bits in {len(bits(first.state)) / 1e6:.1f} MB of weights; seed + 1: "
    )
    seeds = Claim("B24", "the same seed gives the same model, another seed another", found +
                  ("others" if differs else "the same"), holds=same and differs)  # fmt: skip
    return [seeds, compiling(config, train), scaling(config, fits, counts), accelerator(config, first)]


def compiling(config: Config, train: Batches) -> Claim:
    """One step compiled, operation by operation, and only handed over."""
    experiment = build(config, train.example)
    args = experiment.init(jax.random.key(0)), train.batch(0, 0)
    compiled, eager = (
        run.measure(experiment.step, *args),
        run.measure(experiment.step, *args, compiled=False, repeats=2),
    )
    ratio = eager.seconds / compiled.seconds
    found = (f"compiled {1e3 * compiled.seconds:.1f} ms, op by op {1e3 * eager.seconds:.0f} ms: {ratio:.1f} times; "
             f"the call returns after {1e3 * compiled.dispatch:.2f} ms, the devices go on")  # fmt: skip
    return Claim("S04", f"compiling a step of the {config.model} makes it faster", found, holds=ratio > 1)


def scaling(config: Config, fits: dict[tuple[str, int], run.Result], counts: list[int]) -> Claim:
    """Equality and speed over devices, as a table and a picture."""
    text = f"batches and results do not depend on the number of devices: test losses less than {CLOSE:.0e} apart"
    if len(counts) == 1:
        return Claim("S02", text, "not measured", command=COMMAND)
    rate = {key: config.batch_size * result.steps_per_second for key, result in fits.items()}
    alone, loss = rate["jit", 1], fits["jit", 1].metrics["loss"]
    apart = {key: abs(result.metrics["loss"] / loss - 1) for key, result in fits.items()}
    lines = ["mode  devices  examples/s  speed-up  efficiency  test loss apart"]
    for (mode, n), r in rate.items():
        lines.append(f"{mode:5} {n:7}  {r:10,.0f}  {r / alone:8.2f}  {r / alone / n:10.0%}  {apart[mode, n]:15.1e}")
    run.say("\n".join(lines))
    run.save_text(config, "scaling", "\n".join(lines))
    run.save_figure(config, "scaling", lambda: draw(config, rate, counts))
    best, worst = max((key for key in rate if key[1] > 1), key=lambda key: rate[key]), max(apart.values())
    found = (
        f"test losses at most {worst:.1e} apart in {len(fits)} runs on {', '.join(map(str, counts))} devices; "
        f"{rate[best] / alone:.2f} times as fast with {best[1]} ({best[0]}), {rate[best]:,.0f} examples/s"
    )
    bound = Bound(worst, "<", CLOSE)
    return Claim("S02", text, found, f"{CLOSE:.0e}", "sums in another order", bound.holds, bounds=(bound,))


def draw(config: Config, rate: dict[tuple[str, int], float], counts: list[int]) -> Any:
    """Examples a second over devices."""
    figure, axis = plots.new_figure(5.5, 4)
    for mode in MODES:
        points = [(n, rate[mode, n]) for n in counts if (mode, n) in rate]
        axis.plot(*zip(*points, strict=True), "o-", label=mode)
    axis.plot(counts, [n * rate["jit", 1] for n in counts], ":", color="gray", label="n times one")
    axis.set(
        xlabel="devices", ylabel="examples a second", xscale="log", yscale="log", title=f"batch {config.batch_size}"
    )
    axis.set_xticks(counts, [str(n) for n in counts])
    ticks = sorted({round(n * rate["jit", 1] / 10) * 10 for n in counts} | {round(max(rate.values()) / 10) * 10})
    axis.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.legend()
    return figure


def accelerator(config: Config, first: run.Result) -> Claim:
    """How many examples a second one accelerator takes."""
    text, rate = "one accelerator beside the CPU, examples a second", config.batch_size * first.steps_per_second
    if jax.default_backend() == "cpu":
        return Claim(
            "S05",
            text,
            "not measured",
            f"{rate:,.0f} on one CPU device here",
            command="python -m experiments.data_parallel",
        )
    return Claim("S05", text, f"{rate:,.0f} on {jax.devices()[0].device_kind}", "the CPU's in the README", holds=True)


if __name__ == "__main__":
    run.main(Config, main)
