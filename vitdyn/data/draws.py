"""What is drawn of a sample beside independent latents of equal clusters, each from streams of its own."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.data.latents import Distribution, draw_of_streams
from vitdyn.data.layout import PatchLayout
from vitdyn.seeds import Streams


def draw_clusters(
    probabilities: tuple[float, ...] | None, clusters: int, streams: Streams, count: int
) -> Int[np.ndarray, "seed sample"]:
    """Return the cluster of each sample: uniform, or with given probabilities, to within 2^-53."""
    cluster = np.zeros((len(streams.seeds), count), dtype=np.int64)
    if probabilities is not None:
        # as many numbers lie at or above an edge as clusters end below it
        cluster[:] = np.searchsorted(
            np.cumsum(probabilities)[:-1], _uniforms(streams, (count,)), side="right"
        )
    elif clusters > 1:
        _fill_whole_numbers(streams, clusters, cluster)
    return cluster


def share_latents(
    latents: Float[np.ndarray, "seed sample area"],
    correlation: float,
    distribution: Distribution,
    common: Streams,
    links: Streams,
) -> Float[np.ndarray, "seed sample area"]:
    """Return latents where an area has, with probability √ρ, a common latent of its sample in place of its own.

    Both of two areas have it with probability ρ; else their latents are independent.
    """
    whole = draw_of_streams(distribution, common, latents.shape[1:2])[..., None]
    return np.where(_uniforms(links, latents.shape[1:]) < sqrt(correlation), whole, latents)


def draw_signs(
    negative: float, streams: Streams, shape: tuple[int, ...]
) -> Float[np.ndarray, "seed sample area"]:
    """Return −1 with a probability, else 1."""
    return np.where(_uniforms(streams, shape) < negative, -1.0, 1.0)


def draw_variants(
    variants: int, streams: Streams, shape: tuple[int, ...]
) -> Int[np.ndarray, "seed sample area"]:
    """Return which of its features each area of each sample shows, uniformly."""
    drawn = np.zeros((len(streams.seeds), *shape), dtype=np.int64)
    if variants > 1:
        _fill_whole_numbers(streams, variants, drawn.reshape(len(drawn), -1))
    return drawn


def draw_positions(
    layout: PatchLayout, largest: int, streams: Streams, count: int
) -> Int[np.ndarray, "seed sample patch"]:
    """Return which position of the layout each patch shows, where the partition moves along each axis of a torus.

    It moves by 0 to ``largest`` cells along each axis, uniformly and independently: rows and columns of a grid, or
    the circle of positions. An axis of fewer cells is gone round once at most.
    """
    sides = layout.grid or (layout.patches,)
    cells, shifts = (
        np.unravel_index(np.arange(layout.patches), sides),
        _uniforms(streams, (count, len(sides))),
    )
    moved = [
        (cell - np.floor(shifts[..., axis, None] * min(largest + 1, side)).astype(np.int64)) % side
        for axis, (cell, side) in enumerate(zip(cells, sides, strict=True))
    ]
    return np.ravel_multi_index(moved, sides)


def draw_noise(
    size: float, streams: Streams, shape: tuple[int, ...], like: Tensor
) -> Float[Tensor, "seed sample patch feature"]:
    """Return normal numbers of a standard deviation, in the precision and on the device of ``like``."""
    noise = torch.empty(len(streams.seeds), *shape, dtype=like.dtype)
    # each seed's in its place: float64 numbers of all seeds would be the largest array of a step
    for own, generator in zip(noise, streams.each(), strict=True):
        own.copy_(torch.from_numpy(generator.standard_normal(shape))).mul_(size)
    return noise.to(like.device)


def _uniforms(streams: Streams, shape: tuple[int, ...]) -> Float[np.ndarray, "seed ..."]:
    from vitdyn.data.stream_words import fill_uniforms  # which loads the compiler

    numbers = np.empty((len(streams.seeds), prod(shape)))
    fill_uniforms(streams.keys, streams.step, numbers)
    return numbers.reshape(-1, *shape)


def _fill_whole_numbers(streams: Streams, bound: int, numbers: Int[np.ndarray, "seed number"]) -> None:
    from vitdyn.data.stream_words import fill_whole_numbers

    fill_whole_numbers(streams.keys, streams.step, bound, numbers)
