"""nanoGPT's small CPU setting on Tiny Shakespeare: jaxdl compared with the same model built from PyTorch's modules.

    python -m tests.benchmarks.nanogpt --data_dir=DATA [--steps=2000]

Both Transformers (4 layers, 4 heads, width 128, context 64, no biases, tied embeddings, 804,096 weights) start from
the same weights and train on the same batches of 12 windows in the same order, with AdamW (0.9, 0.99), weight decay
0.1, gradient norm at most 1, 100 steps of warm-up and a cosine schedule from 1e-3 to 1e-4. The loss is the mean over
the whole validation part, in windows of 64. The table also has an LSTM with as many weights and its own learning rate.
Each model trains in a separate process, one after another. The seconds are from the first step to the last and include
compilation and a final evaluation; those of jaxdl include ten evaluations and checkpoints. nanoGPT reports 1.88.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SETTING = ["--dataset=tinyshakespeare", "--context=64", "--batch_size=12", "--warmup=100", "--final_fraction=0.1"]
SETTING += ["--weight_decay=0.1", "--beta2=0.99", "--clip_norm=1", "--progress=false", "--valid_fraction=0"]
GPT = ["--cell=transformer", "--layers=4", "--features=128", "--learning_rate=1e-3"]
LSTM = ["--cell=lstm", "--layers=2", "--parameters=804096", "--learning_rate=4e-3"]


def torch_model(params):
    """Returns the model in PyTorch with jaxdl's initial weights."""
    import torch
    from torch import nn

    D, heads, layers = 128, 4, 4
    blocks = [
        nn.TransformerEncoderLayer(D, heads, 4 * D, 0.0, "gelu", batch_first=True, norm_first=True, bias=False)
        for _ in range(layers)
    ]
    tensor = lambda x: torch.tensor(np.array(x))
    with torch.no_grad():
        for i, block in enumerate(blocks):
            p = params["blocks"][f"blocks_{i}"]
            attention, feed = p["attention"], p["feed_forward"]
            packed = [attention[name]["kernel"].T for name in ("query", "key", "value")]
            block.self_attn.in_proj_weight.copy_(tensor(np.concatenate(packed)))
            block.self_attn.out_proj.weight.copy_(tensor(attention["out"]["kernel"].T))
            block.linear1.weight.copy_(tensor(feed["Dense_0"]["kernel"].T))
            block.linear2.weight.copy_(tensor(feed["Dense_1"]["kernel"].T))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Parameter(tensor(params["embedding"]["embedding"]))
            self.positions = nn.Parameter(tensor(params["positions"]["embedding"]))
            self.blocks = nn.ModuleList(blocks)
            self.norm = nn.LayerNorm(D, bias=False)

        def forward(self, tokens):
            x = self.embedding[tokens] + self.positions
            mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
            for block in self.blocks:
                x = block(x, mask, is_causal=True)
            return self.norm(x) @ self.embedding.T

    return Model()


def train_torch(data_dir, steps):
    """Trains PyTorch's model on jaxdl's batches; prints loss, seconds and number of weights as JSON."""
    import jax
    import torch
    from torch.nn import functional

    from experiments.language_model import Config as LanguageConfig
    from experiments.language_model import build, data
    from jaxdl import optim
    from jaxdl.run.command.flags import parse

    config = parse(LanguageConfig, [*SETTING, *GPT, f"--data_dir={data_dir}", f"--steps={steps}"])
    parts = data(config)
    train, test = parts.train, parts.test
    state = build(config, parts).init(jax.random.key(0))
    model = torch_model(jax.device_get(state.learner.params)["params"])
    decays = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    rate = optim.schedule("cosine", 1e-3, steps=steps, warmup=100, final_fraction=0.1)
    rates = [float(r) for r in jax.vmap(rate)(np.arange(steps))]
    loss_of = lambda batch: functional.cross_entropy(
        model(torch.tensor(batch["x"])).flatten(0, 1), torch.tensor(batch["y"]).flatten().long(), reduction="none"
    )
    start = time.perf_counter()
    for t in range(steps):
        for group in adam.param_groups:
            group["lr"] = rates[t]
        adam.zero_grad()
        loss_of(train.batch(0, t)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    total, count = 0.0, 0.0
    with torch.no_grad():
        for rows, valid in test.in_order():
            batch = test.take(test.arrays, rows)
            weight = (batch.get("mask", np.ones(batch["y"].shape)) * valid[:, None]).ravel()
            total += float((loss_of(batch).double().numpy() * weight).sum())
            count += float(weight.sum())
    seconds = time.perf_counter() - start
    weights = sum(p.numel() for p in model.parameters())
    print(json.dumps({"loss": total / count, "seconds": seconds, "weights": weights}))


def train_jaxdl(data_dir, steps, flags, folder):
    """Runs the experiment through launch.sh, as a user does; returns loss, seconds and number of weights."""
    root = Path(__file__).parents[2]
    command = [root / "launch.sh", "language_model", *SETTING, *flags, f"--data_dir={data_dir}", f"--steps={steps}"]
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run([*command, f"--workdir={folder}"], check=True, capture_output=True, env=environment)
    result = json.loads((Path(folder) / "result.json").read_text())
    claims = json.loads((Path(folder) / "summary.json").read_text())["claims"]
    (weights,) = (int(q["values"][0]) for c in claims for q in c["quantities"] if q["name"] == "weights")
    return {"loss": result["metrics"]["loss"], "seconds": result["seconds"], "weights": weights}


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        train_torch(args.data_dir, args.steps)
        return
    print(f"{'model':22} {'weights':>9} {'validation loss':>16} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        own = [sys.executable, "-m", "tests.benchmarks.nanogpt", f"--data_dir={args.data_dir}"]
        environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        peer = subprocess.run(
            [*own, f"--steps={args.steps}", "--torch"], check=True, capture_output=True, text=True, env=environment
        )
        show = lambda name, r: print(f"{name:22} {r['weights']:9,} {r['loss']:16.4f} {r['seconds']:8.1f}", flush=True)
        show("Transformer, PyTorch", json.loads(peer.stdout.splitlines()[-1]))
        show("Transformer, jaxdl", train_jaxdl(args.data_dir, args.steps, GPT, f"{folder}/gpt"))
        show("LSTM, jaxdl", train_jaxdl(args.data_dir, args.steps, LSTM, f"{folder}/lstm"))


if __name__ == "__main__":
    main()
