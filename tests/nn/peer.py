"""PyTorch versions of layers on flax parameter trees with torch tensors as leaves; images are [B, H, W, C]."""

import jax
import numpy as np


def random_variables(model, x, seed=0):
    """Random values for all variables of model.init(key, x), so that no bias, scale or average is 0 or 1."""
    draw = np.random.default_rng(seed)

    def leaf(path, shape):
        name = path[-1].key
        fan_in = np.prod(shape.shape[:-1]) if name == "kernel" else 1
        value = draw.normal(size=shape.shape) / np.sqrt(fan_in)
        return np.float32(np.exp(0.3 * value) if name in ("scale", "var") else value)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(model.init, jax.random.key(0), x))


def tensors(tree, requires_grad=False):
    import torch

    return jax.tree.map(lambda a: torch.tensor(np.array(a), requires_grad=requires_grad), tree)


def arrays(tree):
    return jax.tree.map(lambda t: t.detach().numpy(), tree)


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def conv(p, x, **options):
    import torch

    y = torch.conv2d(x.permute(0, 3, 1, 2), p["kernel"].permute(3, 2, 0, 1), p.get("bias"), **options)
    return y.permute(0, 2, 3, 1)


def pool(x, kind):
    from torch.nn import functional as F

    pooled = {"max": F.max_pool2d, "average": F.avg_pool2d}[kind](x.permute(0, 3, 1, 2), 2)
    return pooled.permute(0, 2, 3, 1)


def batch_norm(p, stats, x, train):
    """Normalises over the last axis; `train` updates the running averages in `stats` in place."""
    from torch.nn import functional as F

    y = x.movedim(-1, 1)
    y = F.batch_norm(y, stats["mean"], stats["var"], p["scale"], p["bias"], train, momentum=0.1, eps=1e-5)
    return y.movedim(1, -1)


def biased(after, before, n):
    """Converts PyTorch's running variance after a step, 0.9 v + 0.1 s^2 n / (n - 1), to flax's, without n / (n - 1)."""
    return 0.9 * before + (after - 0.9 * before) * (n - 1) / n
