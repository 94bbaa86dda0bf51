"""Time of a training step in PyTorch, in plain flax and optax, and in jaxdl, on the same batch.

    python -m tests.benchmarks.steps [--rounds=3] [--only=lstm,gpt,...]

A step is forward, backward and Adam's update. Every measurement runs in its own process, because thread pools disturb
each other; the variants of a case alternate, `--rounds` times. PyTorch is measured with and without huge pages
(GLIBC_TUNABLES), JAX with huge pages and three choices of the operations for which XLA uses YNN: all (its default), all
but convolutions (as launch.sh sets), or also elementwise operations but no convolutions, which jaxlib 0.10 does not
support for every program. The first round selects the best setting of each variant. The table has the shortest step of
all rounds of about 2 s, in milliseconds, because it is least disturbed by other processes. "default" is plain flax
without any setting.

    lstm      embedding, 2 x 256 LSTM, logits; T 64, V 65, batch 32
    gpt       4 layers, 4 heads, width 128; T 64, V 65, batch 12, no dropout
    cnn       32-64 CNN on 28x28, batch 128
    resnet18  on 32x32x3, batch 64
    vae       784-500-20-500-784, batch 128
    dcgan     64-128 on 28x28, batch 64: one step of each player, batch norm
"""

import argparse
import math
import os
import subprocess
import sys
import time

from tests.benchmarks.batches import BATCHES

KINDS = {
    "torch": ("eager", "compiled"),
    "flax": ("jit",),
    "jaxdl": ("1 jit", "2 jit", "2 pmap"),  # number of CPU devices, and fit's --parallel
}
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
EIGEN = {"XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce"}
ELEMENTWISE = {"XLA_FLAGS": EIGEN["XLA_FLAGS"] + ",eltwise"}
SETTINGS = {"-": {}, "huge": HUGE, "eigen": HUGE | EIGEN, "eltwise": HUGE | ELEMENTWISE}
TRIED = {"torch": ("-", "huge"), "flax": tuple(SETTINGS), "jaxdl": ("huge", "eigen", "eltwise")}


def lstm():
    from jaxdl.losses import softmax_cross_entropy
    from jaxdl.nn import RecurrentLM

    return supervised(
        "lstm", RecurrentLM(65), lambda outputs, batch: softmax_cross_entropy(outputs[0], batch["y"]).mean(-1)
    )


def gpt():
    from jaxdl.losses import softmax_cross_entropy
    from jaxdl.nn import GPT

    return supervised("gpt", GPT(65, 64), lambda logits, batch: softmax_cross_entropy(logits, batch["y"]).mean(-1))


def images(case):
    from jaxdl.losses import softmax_cross_entropy
    from jaxdl.nn import CNN, ResNet18

    model = {"cnn": CNN, "resnet18": ResNet18}[case]()
    return supervised(case, model, lambda logits, batch: softmax_cross_entropy(logits, batch["y"]))


def supervised(case, model, loss):
    import optax

    import jaxdl

    return jaxdl.supervised(model, optax.adam(1e-3), example=BATCHES[case](), loss=loss)


def vae():
    import jax
    import jax.numpy as jnp
    import optax

    from jaxdl.core import Experiment, Learner, make_update
    from jaxdl.losses import gaussian_kl, sigmoid_cross_entropy
    from jaxdl.nn import MLP
    from jaxdl.supervision import Supervised

    encoder, decoder, tx = MLP((500, 40)), MLP((500, 784)), optax.adam(1e-3)

    def init(key):
        params = encoder.init(key, jnp.zeros((1, 784)))["params"], decoder.init(key, jnp.zeros((1, 20)))["params"]
        return Supervised.create(key, learner=Learner.create(params, tx), stats={})

    def loss(params, x, key):
        mean, log_variance = jnp.split(encoder.apply({"params": params[0]}, x), 2, -1)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        likelihood = -sigmoid_cross_entropy(decoder.apply({"params": params[1]}, z), x).sum(-1)
        value = (gaussian_kl(mean, log_variance).sum(-1) - likelihood).mean()
        return value, value

    update = make_update(loss, tx)

    def step(state, batch):
        learner, value = update(state.learner, batch["x"], state.step_key())
        return state.advance(learner=learner), {"loss": value}

    return Experiment(init, step)


def dcgan():
    import jax
    import jax.numpy as jnp
    import optax

    from jaxdl.core import Experiment, Learner, make_update, mean_over_devices
    from jaxdl.nn import DCGANCritic, DCGANGenerator
    from jaxdl.supervision import Supervised

    generator, critic, tx = DCGANGenerator(), DCGANCritic(), optax.adam(1e-3)

    def init(key):
        g, c = generator.init(key, jnp.zeros((2, 100))), critic.init(key, jnp.zeros((2, 28, 28, 1)))
        learners = Learner.create(g["params"], tx), Learner.create(c["params"], tx)
        return Supervised.create(key, learner=learners, stats=(g["batch_stats"], c["batch_stats"]))

    def apply(net, params, stats, x):
        y, new = net.apply({"params": params, "batch_stats": stats}, x, True, mutable=["batch_stats"])
        return y, new["batch_stats"]

    def critic_loss(params, stats, real, fake):
        on_real, stats = apply(critic, params, stats, real)
        on_fake, stats = apply(critic, params, stats, fake)
        return jax.nn.softplus(-on_real).mean() + jax.nn.softplus(on_fake).mean(), stats

    def generator_loss(params, stats, c, c_stats, z):
        fake, stats = apply(generator, params, stats, z)
        return jax.nn.softplus(-apply(critic, c, c_stats, fake)[0]).mean(), stats

    update_critic, update_generator = make_update(critic_loss, tx), make_update(generator_loss, tx)

    def step(state, batch):
        (g, c), (g_stats, c_stats) = state.learner, state.stats
        z = jax.random.normal(state.step_key(), (2, len(batch["x"]), 100))
        fake, _ = apply(generator, g.params, g_stats, z[0])
        c, c_stats = update_critic(c, c_stats, batch["x"], fake)
        g, g_stats = update_generator(g, g_stats, c.params, c_stats, z[1])
        return state.advance(learner=(g, c), stats=mean_over_devices((g_stats, c_stats))), {
            "scale": g_stats["BatchNorm_0"]["mean"][0]
        }

    return Experiment(init, step)


EXPERIMENTS = {
    "lstm": lstm,
    "gpt": gpt,
    "cnn": lambda: images("cnn"),
    "resnet18": lambda: images("resnet18"),
    "vae": vae,
    "dcgan": dcgan,
}


def jaxdl_step(case, kind):
    """Returns a training step as `jaxdl.run.fit` compiles it, on all CPU devices of the environment."""
    import jax

    from jaxdl.run.engine.parallel import compile_steps, make_mesh, place_state

    mesh, experiment = make_mesh(), EXPERIMENTS[case]()
    state = place_state(jax.jit(experiment.init)(jax.random.key(0)), mesh)
    steps = compile_steps(experiment.step, state, mesh, parallel=kind.split()[1], take=lambda arrays, batch: batch)
    batch = jax.tree.map(lambda x: x[None], BATCHES[case]())

    def call():
        nonlocal state
        state, metrics = steps({}, state, batch)
        return metrics

    return call


def make(case, framework, kind):
    """Returns a function that makes one step."""
    if framework == "jaxdl":
        return jaxdl_step(case, kind)
    if framework == "flax":
        from tests.benchmarks import steps_flax

        return steps_flax.make(case, kind)
    from tests.benchmarks import steps_torch

    return steps_torch.make(case, kind)


def measure(case, framework, kind, seconds=2.0):
    """Returns the milliseconds of the shortest step; each is awaited, because steps in flight share the cores."""
    call, times = make(case, framework, kind), []

    def timed():
        start = time.perf_counter()
        value = call()
        if framework != "torch":
            import jax

            jax.block_until_ready(value)
        return time.perf_counter() - start

    for _ in range(3):
        timed()
    while sum(times) < seconds or len(times) < 10:
        times.append(timed())
    return 1e3 * min(times)


def in_process(case, framework, kind, setting):
    """Runs `measure` in a new process; returns infinity and prints a note if it fails."""
    devices = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": kind.split()[0] if framework == "jaxdl" else "1"}
    clean = {name: value for name, value in os.environ.items() if name not in HUGE | EIGEN}
    command = [sys.executable, "-m", "tests.benchmarks.steps", "--one", case, framework, kind]
    done = subprocess.run(command, env=clean | devices | SETTINGS[setting], capture_output=True, text=True)
    if done.returncode:
        print(f"{case} {framework} {kind} {setting} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return math.inf
    return float(done.stdout)


def compare(case, rounds):
    """Returns {(framework, kind): {setting: shortest step in milliseconds}}."""
    table = {
        (framework, kind): dict.fromkeys(TRIED[framework], math.inf)
        for framework, kinds in KINDS.items()
        for kind in kinds
    }
    for turn in range(rounds):
        for (framework, kind), found in table.items():
            for setting in list(found) if turn == 0 else [min(found, key=found.get)]:
                found[setting] = min(found[setting], in_process(case, framework, kind, setting))
    return table


def show(case, table):
    """Prints one row of the table."""
    cells = {key: (min(found.values()), min(found, key=found.get)) for key, found in table.items()}
    best = {framework: min(cells[framework, kind] for kind in kinds) for framework, kinds in KINDS.items()}
    default = table["flax", "jit"]["-"]
    row = [f"{case:9}", f"{default:8.1f}"]
    row += [f"{milliseconds:8.1f} {setting:7}" for milliseconds, setting in cells.values()]
    row += [f"{best['torch'][0] / x:6.2f}" for x in (default, best["flax"][0], best["jaxdl"][0])]
    print(" ".join(row), flush=True)


def main():
    """Prints the table, or with --one the milliseconds of one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(BATCHES), help="cases, separated by commas, of " + ",".join(BATCHES))
    parser.add_argument("--one", nargs=3, metavar=("CASE", "FRAMEWORK", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(measure(*args.one))
        return
    heads = [f"{framework} {kind}" for framework, kinds in KINDS.items() for kind in kinds]
    print(" ".join([f"{'ms/step':9}", f"{'default':>8}", *(f"{head:>16}" for head in heads),
                    "t/def", "t/flax", "t/jaxdl"]))  # fmt: skip
    for case in args.only.split(","):
        show(case, compare(case, args.rounds))


if __name__ == "__main__":
    main()
