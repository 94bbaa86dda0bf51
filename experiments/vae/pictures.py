"""The plots of `vae`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.scipy.special import ndtri

from jaxdl import run
from jaxdl.data import Images, pixels01
from jaxdl.run import plots
from jaxdl.run.show.pictures import tiles

Decode = Callable[[np.ndarray], np.ndarray]  # codes [..., D] -> means of the pixels [..., H, W, C]


def draw(
    config: run.RunConfig,
    images: Images,
    drawn: np.ndarray,
    codes: np.ndarray,
    log_variance: np.ndarray,
    decode: Decode,
) -> None:
    """Plots reconstructions of two test images per class, and traversals of the ten latents with the largest KL.

    Args:
      config: names the run's folder.
      images: the grey originals.
      drawn: the binary test images.
      codes: means of their q(z|x) [n, D].
      log_variance: log variances [n, D].
      decode: codes -> means of the pixels.
    """
    kl = np.mean(codes**2 + np.exp(log_variance) - 1 - log_variance, 0) / 2
    labels = images.test["y"]
    shown = np.concatenate([np.flatnonzero(labels == y)[:2] for y in range(len(images.names))])
    rows = np.stack([pixels01(images.test["x"][shown]), drawn[shown], decode(codes[shown])])

    def reconstructions() -> Any:
        figure, axis = plots.new_figure(0.5 * len(shown) + 1.2, 2.4)
        names = [images.names[y].replace(" ", "\n").replace("/", "/\n") for y in labels[shown]]
        tiles(axis, rows, names, ("original", "binary", "reconstruction"), title="Test images")
        return figure

    order, values = np.argsort(-kl)[:10], np.linspace(-3, 3, 11)
    moved = np.tile(codes[shown[0]], (len(order), len(values), 1))
    for row, latent in enumerate(order):
        moved[row, :, latent] = values
    changed = decode(moved)

    def traversals() -> Any:
        figure, axis = plots.new_figure(0.5 * len(values) + 1.2, 0.5 * len(order) + 0.9)
        names = [f"z{i}: {kl[i]:.2f} nats" for i in order]
        title = "Latent traversals from one test image"
        tiles(axis, changed, [f"{v:.1f}" for v in values], names, xlabel="value of the latent", title=title)
        return figure

    run.save_figure(config, "reconstructions", reconstructions)
    run.save_figure(config, "traversals", traversals)


def draw_plane(config: run.RunConfig, images: Images, codes: np.ndarray, decode: Decode, side: int = 16) -> None:
    """Plots two latents: the decoder on a grid of `side` prior quantiles per axis, and the codes [n, 2] of images."""
    z = np.asarray(ndtri((np.arange(side) + 0.5) / side))
    grid = decode(np.stack(np.meshgrid(z, z[::-1]), -1))  # z0 to the right, z1 upwards

    def plane() -> Any:
        figure, (left, right) = plots.new_figure(12, 5.6, 1, 2)
        ticks = [f"{v:.1f}" for v in z]
        tiles(left, grid, ticks, ticks[::-1], xlabel="z0", ylabel="z1", title="Decoded quantiles of the prior")
        for y, name in enumerate(images.names):
            right.scatter(*codes[images.test["y"] == y][:200].T, s=7, color=f"C{y}", label=plots.literal(name))
        right.set(xlabel="z0", ylabel="z1", title="Mean of q(z|x), test images", aspect="equal")
        right.legend(fontsize=8, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
        return figure

    run.save_figure(config, "plane", plane)
