"""Data-parallel training on 1, 2, 4, ... devices: equal results, measured speed-up.

Splitting a batch over devices changes the speed of training but not its result: the mean of the devices' gradients is
the gradient of the whole batch. The experiment trains one classifier on every number of devices in three modes and
compares test losses and throughput; it also measures the gain from compilation.

With r(n) examples per second on n devices the speed-up is r(n) / r(1) and the efficiency r(n) / (n r(1)).
    jit: the compiler splits the step    pmap: each device runs the step    fsdp: jit with the weights split as well

    ./launch.sh --cpu-devices=8 data_parallel                   # eight virtual devices on the CPU
    python -m experiments.data_parallel --model=mlp             # all GPUs or TPU cores of this machine
    ./launch.sh --processes=2 --cpu-devices=4 data_parallel     # the same devices in two processes

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
FIGURE = "scaling"  # shown on the page of results
MODELS: dict[str, Any] = {"cnn": lambda: CNN(classes=62), "mlp": lambda: MLP((512, 512, 62))}
MODES = ("jit", "pmap", "fsdp")
CLOSE = 1e-4  # relative tolerance of the final test loss: devices sum in another order
CLAIMS = {
    "seeds": Claim("Equal seeds give bit-identical models; different seeds do not", "B24"),
    "compiled": Claim("A compiled step is faster than an uncompiled one, and its dispatch is asynchronous", "S04"),
    "devices": Claim(
        "Batches and results do not depend on the number of devices",
        "S02",
        True,
        flags="./launch.sh --cpu-devices=8 data_parallel",
    ),
    "accelerator": Claim("One accelerator processes more examples per second than the CPU", "S05", needs="gpu"),
}
SMALL = {"model": "mlp", "steps": 8, "seeds": 1}  # the flags at which the tests check the claims


class Config(run.RunConfig):
    """Flags of this experiment, which varies --parallel and --devices itself."""

    model: str = flag("cnn", "network, trained on letters of 28x28 pixels", choices=MODELS)
    steps: int | None = 24
    seeds: int = 3
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    tensorboard: bool = False


def data(config: Config) -> Data:
    """Loads letters rendered from matplotlib's fonts."""
    return load_images("glyphs", valid=config.valid_fraction).data(config.batch_size)


def build(config: Config, data: Data) -> Experiment:
    """Builds a classifier of 62 letters and digits."""
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
    """Returns the bytes of all parameters, concatenated."""
    return b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(state.learner.params))


def report(config: Config, data: Data) -> Iterator[run.Finding]:
    """Trains on every number of devices in every mode."""
    # eight intervals per run; the first, which compiles, does not count towards the speed
    config = config.replace(eval_every=max(1, (config.steps or 1) // 8))
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= jax.device_count() and config.batch_size % n == 0]
    if jax.process_count() > 1:
        counts = [jax.device_count()]  # fewer devices would leave a process without one
    experiment = build(config, data)
    fit = lambda name, **changes: run.fit(experiment, data, config, name=name, **changes)
    modes = {n: MODES if n > 1 else MODES[:1] for n in counts}
    fits = {(mode, n): fit(f"{mode}_{n}", parallel=mode, devices=n) for n in counts for mode in modes[n]}
    first, alone = fits["jit", counts[0]], {"parallel": "jit", "devices": counts[0]}
    again, other = fit("again", seeds=1, **alone), fit("other_seed", seed=config.seed + 1, seeds=1, **alone)
    differ = lambda one: sum(a != b for a, b in zip(bits(one.state), bits(first.state), strict=True))
    same = Quantity("differing bytes of the weights, same seed", differ(again), "==", 0)
    yield run.measured("seeds", same, Quantity("differing bytes, another seed", differ(other), ">", 0))
    yield compiling(experiment, data)
    if len(counts) > 1:
        yield scaling(config, fits, counts)
    if jax.default_backend() != "cpu":
        name = f"throughput on {jax.devices()[0].device_kind}"
        yield run.measured("accelerator", Quantity(name, rates(config, first), unit="examples/s"))


def compiling(experiment: Experiment, data: Data) -> run.Finding:
    """Compares a compiled step with op-by-op execution, and its dispatch time with its run time."""
    args = experiment.init(jax.random.key(0)), data.train.batch(0, 0)
    compiled = run.benchmark(experiment.step, *args)
    eager = run.benchmark(experiment.step, *args, compiled=False, repeats=2)
    return run.measured(
        "compiled",
        Quantity("speed-up over op-by-op execution", eager.seconds / compiled.seconds, ">", 1, "times"),
        Quantity("dispatch time / step time", compiled.dispatch / compiled.seconds, unit="times"),
    )


def rates(config: Config, result: run.Result) -> np.ndarray:
    """Examples per second of a fit [seeds]."""
    return config.batch_size * np.array([one.steps_per_second for one in result.runs])


def scaling(config: Config, fits: dict[tuple[str, int], run.Result], counts: list[int]) -> run.Finding:
    """Compares test losses and throughput over devices; writes a table and a plot."""
    each = {key: rates(config, result) for key, result in fits.items()}
    rate = {key: float(values.mean()) for key, values in each.items()}
    alone, loss = rate["jit", 1], np.array(fits["jit", 1].values("loss"))
    apart = {key: abs(result.values("loss") / loss - 1) for key, result in fits.items()}  # [seeds]
    lines = ["mode  devices  examples/s  speed-up  efficiency  test loss difference"]
    for (mode, n), r in rate.items():
        difference = apart[mode, n].max()
        lines.append(f"{mode:5} {n:7}  {r:10,.0f}  {r / alone:8.2f}  {r / alone / n:10.0%}  {difference:20.1e}")
    run.log("\n".join(lines))
    run.save_text(config, "scaling", "\n".join(lines))
    run.save_figure(config, "scaling", lambda: draw(config, rate, counts))
    best = max((key for key in rate if key[1] > 1), key=lambda key: rate[key])
    return run.measured(
        "devices",
        Quantity(f"largest relative difference of {len(fits)} test losses", np.max([*apart.values()], 0), "<", CLOSE),
        Quantity(f"speed-up with {best[1]} devices, {best[0]}", each[best] / each["jit", 1], unit="times"),
    )


def draw(config: Config, rate: dict[tuple[str, int], float], counts: list[int]) -> Any:
    """Plots examples per second against the number of devices."""
    figure, axis = plots.new_figure(5.5, 4)
    for mode in MODES:
        points = [(n, rate[mode, n]) for n in counts if (mode, n) in rate]
        axis.plot(*zip(*points, strict=True), "o-", label=mode)
    axis.plot(counts, [n * rate["jit", 1] for n in counts], ":", color="gray", label="linear")
    axis.set(
        xlabel="devices",
        ylabel="examples / s",
        xscale="log",
        yscale="log",
        title=f"Throughput, batch size {config.batch_size}",
    )
    axis.set_xticks(counts, [str(n) for n in counts])
    fastest, alone = max(rate.values()), rate["jit", 1]
    linear = [n * alone for n in counts if not 1 / 1.3 < n * alone / fastest < 1.3]
    ticks = sorted({float(f"{tick:.2g}") for tick in (fastest, *linear)})  # none beside the label of the fastest
    axis.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.minorticks_off()
    axis.legend()
    return figure


if __name__ == "__main__":
    run.main()
