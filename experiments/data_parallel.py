"""One training step on 1, 2, 4, ... devices: the same results, and how much sooner they are there.

The batch of B examples is split over n devices, each of which computes the gradient of its B / n; their mean is that of
the whole batch. With r(n) examples a second the speed-up is r(n) / r(1) and the efficiency r(n) / (n r(1)).
    jit: the compiler splits the step    pmap: each device runs it    fsdp: as jit, and the weights are split as well
Beside it: what compiling is worth, how long a call takes to return, and whether a seed settles a run to the last bit.

    ./launch.sh --cpu-devices=8 data_parallel                   # eight devices on the cores that there are
    python -m experiments.data_parallel --model=mlp             # every GPU or TPU core of this machine
    ./launch.sh --processes=2 --cpu-devices=4 data_parallel     # the same over two processes

Li et al. 2020, PyTorch Distributed (arXiv:2006.15704); Rajbhandari et al. 2020,
ZeRO (arXiv:1910.02054).
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxdl import metrics, run
from jaxdl.core import Experiment
from jaxdl.data import Data, load_images, pixels01
from jaxdl.losses import softmax_cross_entropy
from jaxdl.nn import CNN, MLP
from jaxdl.run import Claim, Quantity, flag, plots
from jaxdl.supervision import supervised

FAMILY = "systems"
FIGURE = "scaling"  # the one that the results page shows
MODELS: dict[str, Any] = {"cnn": lambda: CNN(classes=62), "mlp": lambda: MLP((512, 512, 62))}
MODES = ("jit", "pmap", "fsdp")
CLOSE = 1e-4  # relative, of the final test loss: sums in another order
CLAIMS = {
    "seeds": Claim("the same seed gives the same model, bit by bit, another seed another", "B24"),
    "compiled": Claim("compiling a step makes it faster, and its call returns before the devices are done", "S04"),
    "devices": Claim(
        "batches and results do not depend on the number of devices",
        "S02",
        True,
        flags="./launch.sh --cpu-devices=8 data_parallel",
    ),
    "accelerator": Claim("one accelerator takes more examples a second than the CPU", "S05", needs="gpu"),
}
SMALL = {"model": "mlp", "steps": 16}  # where the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment; --parallel and --devices are what it varies."""

    model: str = flag("cnn", "network on letters of 28x28 pixels", choices=MODELS)
    steps: int | None = 48
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    tensorboard: bool = False


def data(config: Config) -> Data:
    """Letters of matplotlib's fonts."""
    return load_images("glyphs", valid=config.valid_fraction).data(config.batch_size)


def build(config: Config, data: Data) -> Experiment:
    """The classifier of 62 letters and digits."""
    return supervised(
        MODELS[config.model](),
        config.make_optimizer(data),
        example=data.example,
        inputs=lambda batch: (pixels01(batch["x"]),),
        loss=lambda logits, batch: softmax_cross_entropy(logits, batch["y"]),
        metrics=lambda logits, batch: {"accuracy": metrics.accuracy(logits, batch["y"])},
        predict=nn.softmax,
    )


inference = run.of_images


def bits(state: Any) -> bytes:
    """All parameters, one after another."""
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(state.learner.params))


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains on every number of devices in every mode."""
    # eight parts of a run, of which the first, with the compilation, does not count for the speed
    config = config.replace(eval_every=max(1, (config.steps or 1) // 8), seeds=1)
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= jax.device_count() and config.batch_size % n == 0]
    if jax.process_count() > 1:
        counts = [jax.device_count()]  # a part of them would leave a process without any
    experiment = build(config, data)
    fit = lambda name, **changes: run.fit(experiment, data, config, name=name, **changes)
    modes = {n: MODES if n > 1 else MODES[:1] for n in counts}
    fits = {(mode, n): fit(f"{mode}_{n}", parallel=mode, devices=n) for n in counts for mode in modes[n]}
    first, alone = fits["jit", counts[0]], {"parallel": "jit", "devices": counts[0]}
    again, other = fit("again", **alone), fit("other_seed", seed=config.seed + 1, **alone)
    differ = lambda one: sum(a != b for a, b in zip(bits(one.state), bits(first.state), strict=True))
    same = Quantity("bytes of the weights that differ", differ(again), "==", 0)
    yield run.measured("seeds", same, Quantity("with seed + 1", differ(other), ">", 0))
    yield compiling(experiment, data)
    if len(counts) > 1:
        yield scaling(config, fits, counts)
    if jax.default_backend() != "cpu":
        rate = config.batch_size * first.steps_per_second
        yield run.measured("accelerator", Quantity(f"on {jax.devices()[0].device_kind}", rate, "", unit="examples/s"))


def compiling(experiment: Experiment, data: Data) -> run.Finding:
    """One step compiled, operation by operation, and only handed over."""
    args = experiment.init(jax.random.key(0)), data.train.batch(0, 0)
    compiled = run.benchmark(experiment.step, *args)
    eager = run.benchmark(experiment.step, *args, compiled=False, repeats=2)
    return run.measured(
        "compiled",
        Quantity("as fast as operation by operation", eager.seconds / compiled.seconds, ">", 1, "times"),
        Quantity("share of a step after which the call returns", compiled.dispatch / compiled.seconds),
    )


def scaling(config: Config, fits: dict[tuple[str, int], run.Result], counts: list[int]) -> run.Finding:
    """Equality and speed over devices, as a table and a picture."""
    rate = {key: config.batch_size * result.steps_per_second for key, result in fits.items()}
    alone, loss = rate["jit", 1], fits["jit", 1].metrics["loss"]
    apart = {key: abs(result.metrics["loss"] / loss - 1) for key, result in fits.items()}
    lines = ["mode  devices  examples/s  speed-up  efficiency  test loss apart"]
    for (mode, n), r in rate.items():
        lines.append(f"{mode:5} {n:7}  {r:10,.0f}  {r / alone:8.2f}  {r / alone / n:10.0%}  {apart[mode, n]:15.1e}")
    run.log("\n".join(lines))
    run.save_text(config, "scaling", "\n".join(lines))
    run.save_figure(config, "scaling", lambda: draw(config, rate, counts))
    best = max((key for key in rate if key[1] > 1), key=lambda key: rate[key])
    return run.measured(
        "devices",
        Quantity(f"test losses of {len(fits)} runs apart, relative", max(apart.values()), "<", CLOSE),
        Quantity(f"as fast with {best[1]} devices, {best[0]}", rate[best] / alone, unit="times"),
    )


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


if __name__ == "__main__":
    run.main()
