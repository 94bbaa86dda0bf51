import jax
import numpy as np
import peer
import pytest

from jaxdl.nn import DCGANCritic, DCGANGenerator


def draw(*shape):
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


def count(model, x):
    return sum(p.size for p in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), x)["params"]))


def torch_generator(size, width, stages, latent, channels):
    from torch import nn

    h, w, top = size[0] // 2**stages, size[1] // 2**stages, width * 2 ** (stages - 1)
    layers = [nn.Linear(latent, top * h * w, bias=False), nn.Unflatten(1, (top, h, w))]
    for stage in range(stages):
        features = top // 2**stage
        layers += [nn.BatchNorm2d(features), nn.ReLU()]
        last = stage == stages - 1
        layers += [nn.ConvTranspose2d(features, channels if last else features // 2, 4, 2, 1, bias=last)]
    return nn.Sequential(*layers, nn.Tanh())


def torch_critic(size, width, stages, norm, channels):
    from torch import nn

    layers = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for stage in range(1, stages):
        features = width * 2**stage
        after = {"batch": nn.BatchNorm2d(features), "layer": nn.GroupNorm(1, features), "none": None}[norm]
        layers += [nn.Conv2d(features // 2, features, 4, 2, 1, bias=after is None), after, nn.LeakyReLU(0.2)]
    h, w = size[0] // 2**stages, size[1] // 2**stages
    layers += [nn.Flatten(), nn.Linear(width * 2 ** (stages - 1) * h * w, 1)]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def load(model, variables, flat):
    """Copies flax variables into the layers in the same order; `flat` is the (C, H, W) that a dense layer flattens."""
    import torch
    from torch import nn

    params, stats = variables["params"], variables.get("batch_stats", {})
    kinds = {"Linear": "Dense", "Conv2d": "Conv", "ConvTranspose2d": "ConvTranspose", "BatchNorm2d": "BatchNorm"}
    seen = {}
    for layer in model:
        kind = kinds.get(type(layer).__name__, "LayerNorm")
        if not list(layer.parameters()):
            continue
        index = seen[kind] = seen.get(kind, -1) + 1
        p = params[f"{kind}_{index}"]
        weight = p.get("kernel", p.get("scale"))
        if kind == "Dense":  # PyTorch flattens channels first
            C, H, W = flat
            turned = (
                weight.reshape(-1, H, W, C).transpose(0, 3, 1, 2).reshape(len(weight), -1).T
                if weight.shape[1] > 1
                else weight.reshape(H, W, C, 1).transpose(2, 0, 1, 3).reshape(-1, 1).T
            )
        else:
            turned = {"Conv": lambda k: k.transpose(3, 2, 0, 1), "ConvTranspose": lambda k: k.transpose(2, 3, 0, 1)}
            turned = turned.get(kind, lambda k: k)(weight)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(turned))
            if layer.bias is not None:
                layer.bias.copy_(torch.tensor(p["bias"]))
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.copy_(torch.tensor(stats[f"BatchNorm_{index}"]["mean"]))
                layer.running_var.copy_(torch.tensor(stats[f"BatchNorm_{index}"]["var"]))
    return model


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("size", "stages", "channels"), [((8, 8), 2, 1), ((12, 20), 2, 3), ((16, 8), 3, 2)])
@pytest.mark.parametrize("train", [False, True])
def test_generator_against_torch(size, stages, channels, train):
    torch = pytest.importorskip("torch")
    z, width = draw(5, 11), 3
    model = DCGANGenerator(channels, size, width, stages)
    variables = peer.random_variables(model, z)
    flat = (width * 2 ** (stages - 1), size[0] // 2**stages, size[1] // 2**stages)
    theirs = load(torch_generator(size, width, stages, 11, channels), variables, flat).train(train)
    assert count(model, z) == parameters(theirs)
    expected = theirs(torch.tensor(z)).detach().permute(0, 2, 3, 1)
    ours, new = jax.jit(lambda v: model.apply(v, z, train, mutable=["batch_stats"]))(variables)
    assert ours.shape == (5, *size, channels)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    mean = new["batch_stats"]["BatchNorm_1"]["mean"]
    norms = [layer for layer in theirs if isinstance(layer, torch.nn.BatchNorm2d)]
    np.testing.assert_allclose(mean, norms[1].running_mean, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize(("size", "stages", "channels"), [((12, 20), 2, 3), ((16, 8), 3, 2)])
def test_critic_against_torch(norm, size, stages, channels):
    torch = pytest.importorskip("torch")
    x, width = draw(5, *size, channels), 3
    model = DCGANCritic(width, stages, norm)
    variables = peer.random_variables(model, x)
    flat = (width * 2 ** (stages - 1), size[0] // 2**stages, size[1] // 2**stages)
    theirs = load(torch_critic(size, width, stages, norm, channels), variables, flat)
    assert count(model, x) == parameters(theirs)
    assert ("batch_stats" in variables) == (norm == "batch")
    for train in (False, True):
        expected = theirs.train(train)(torch.tensor(x).permute(0, 3, 1, 2)).detach()[:, 0]
        ours, _ = jax.jit(lambda v, train=train: model.apply(v, x, train, mutable=["batch_stats"]))(variables)
        assert ours.shape == (5,)
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_number_of_parameters():
    assert count(DCGANGenerator(), draw(2, 100)) == 627_200 + 256 + 131_072 + 128 + 1_025 == 759_681
    assert count(DCGANCritic(), draw(2, 28, 28, 1)) == 1_088 + 131_072 + 256 + 6_273 == 138_689


@pytest.mark.claims
def test_initialisation_of_kernels_and_scales():
    params = jax.jit(DCGANGenerator(size=(8, 8), width=37).init)(jax.random.key(0), draw(2, 17))["params"]
    for name in ("Dense_0", "ConvTranspose_0"):
        assert float(params[name]["kernel"].std()) == pytest.approx(0.02, rel=0.02)
    scale = params["BatchNorm_0"]["scale"]
    assert float(scale.mean()) == pytest.approx(1, abs=0.01)
    assert float(scale.std()) == pytest.approx(0.02, rel=0.3)
    params = jax.jit(DCGANCritic(37, norm="layer").init)(jax.random.key(0), draw(2, 8, 8, 1))["params"]
    assert float(params["Conv_1"]["kernel"].std()) == pytest.approx(0.02, rel=0.02)
    assert float(params["LayerNorm_0"]["scale"].std()) == pytest.approx(0.02, rel=0.3)


def test_a_gradient_penalty_stays_within_one_example_without_batch_norm():
    x = draw(3, 8, 8, 1)
    for norm, alone in (("layer", True), ("none", True), ("batch", False)):
        model = DCGANCritic(3, norm=norm)
        variables = peer.random_variables(model, x)
        grad = jax.jit(jax.grad(lambda x: model.apply(variables, x, True, mutable=["batch_stats"])[0][0]))(x)
        assert (float(abs(grad[1:]).max()) == 0) == alone


@pytest.mark.parametrize("size", [(30, 28), (28, 2)])
def test_wrong_sizes(size):
    with pytest.raises(ValueError, match=f"multiples of 4 .*{size[0]} x {size[1]}"):
        DCGANGenerator(size=size).init(jax.random.key(0), draw(2, 5))
    with pytest.raises(ValueError, match=f"multiples of 4 .*{size[0]} x {size[1]}"):
        DCGANCritic().init(jax.random.key(0), draw(2, *size, 1))


def test_unknown_norm():
    with pytest.raises(ValueError, match=r"norm .*batch, layer, none.*'group'"):
        DCGANCritic(norm="group").init(jax.random.key(0), draw(2, 8, 8, 1))
