"""The counter stream: published vectors, the same bits in torch and in kernels, exact distributions.

Kernels run under Triton's interpreter (TRITON_INTERPRET=0: on a GPU). Statistical tests allow 5 standard errors.
"""

import os
from math import comb

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything loads Triton

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from vitdyn.data import Beta, Constant, TruncatedNormal, TwoPoint, Uniform
from vitdyn.data.counter import philox, stream_keys, uniforms, words
from vitdyn.data.device_latents import draw_latents, draw_on_cpu, has_quantile, quantile
from vitdyn.data.device_masks import (
    draw_masked,
    runs_kernels,
    visible_patches,
    visible_words,
    words_of_visible,
)

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
VECTORS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (*PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_gives_the_published_vectors(counter, key, expected):
    """Source: Random123's kat_vectors, philox4x32 of 10 rounds."""
    bits = np.array([key[0] | key[1] << 32], dtype=np.uint64).view(np.int64)
    drawn = philox([torch.tensor(word) for word in counter], torch.from_numpy(bits))
    assert tuple(int(word) for word in drawn) == expected


def test_keys_differ_by_seed_and_purpose(complaint):
    keys = torch.cat([stream_keys(range(50), purpose) for purpose in ("masks", "latents")])
    assert len(keys.unique()) == 100
    with complaint("seeds"):
        stream_keys([-1], "masks")
    with complaint("purpose"):
        stream_keys([0], "mask")


def test_a_draw_depends_on_its_own_place_alone():
    keys = stream_keys([4, 9], "masks")
    drawn = words(keys, 3, 1, 6, 10)
    assert torch.equal(drawn[1:, :2], words(keys[1:], torch.tensor(3), 1, 2, 10))
    assert len(drawn.unique()) == drawn.numel()
    for other in (words(keys, 4, 1, 6, 10), words(keys, 3, 0, 6, 10)):
        assert not (other == drawn).any()


def test_uniforms_are_uniform(statistics):
    drawn = uniforms(stream_keys(range(4), "latents"), 0, 0, 500, 10).double()
    assert 0 <= drawn.min() <= drawn.max() < 1
    statistics.assert_mean(drawn.numpy(), 0.5)
    statistics.assert_uniform(np.bincount((drawn.flatten() * 50).long().numpy(), minlength=50))


@pytest.mark.parametrize(("patches", "masked"), [(5, 2), (6, 3)])
def test_masks_are_uniform_among_subsets(patches, masked, statistics):
    hidden = draw_masked(stream_keys(range(4), "masks"), 2, 0, 2000, patches, masked, key_bits=6)
    codes = (hidden.flatten(0, 1).long() << torch.arange(patches)).sum(-1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == comb(patches, masked)
    statistics.assert_uniform(counts.numpy())


def test_masks_have_the_exact_count_and_know_no_neighbour(complaint):
    keys = stream_keys([2, 5, 11], "masks")
    hidden = draw_masked(keys, 7, 0, 9, 33, 20)
    assert (hidden.sum(-1) == 20).all()
    assert torch.equal(hidden[1:2, :4], draw_masked(keys[1:2], 7, 0, 4, 33, 20))
    for masked in (0, 33):
        with complaint("masked"):
            draw_masked(keys, 7, 0, 9, 33, masked)
    with complaint("patches"):
        visible_patches(keys, 7, 0, 1, 2**14 + 1, torch.ones(3, dtype=torch.int32))


@pytest.fixture
def kernels():
    """The kernels, and the device they run on."""
    pytest.importorskip("triton")
    from vitdyn.data import counter_kernels

    device = torch.device("cpu" if counter_kernels.INTERPRETED else "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("Triton is loaded without its interpreter, and there is no GPU")
    assert runs_kernels(device)
    return counter_kernels, device


@pytest.mark.parametrize(
    ("samples", "patches", "masked", "bits"), [(9, 13, 5, 32), (5, 70, 40, 32), (20, 11, 4, 5)]
)
def test_kernel_draws_the_masks_of_torch_to_the_bit(samples, patches, masked, bits, kernels):
    """With 5 bits of a word most samples tie at the boundary and are drawn again, some several times."""
    module, device = kernels
    places = torch.Generator().manual_seed(patches)
    slots = -(-patches // 32) * 32 + 32
    position = torch.full((2, slots), -1, dtype=torch.int32)
    for row in position:
        row[torch.randperm(slots, generator=places)[:patches]] = torch.arange(patches, dtype=torch.int32)
    cluster = torch.randint(0, 2, (2, samples), generator=places)
    keys = stream_keys([3, 8], "masks")
    expected = draw_masked(keys, 6, 1, samples, patches, masked, key_bits=bits)
    moved = (part.to(device) for part in (cluster, position))
    counts = torch.full((2,), masked, dtype=torch.int32, device=device)
    drawn = module.draw_words(keys.to(device), 6, 1, *moved, patches, counts, bits)
    assert torch.equal(drawn.cpu(), words_of_visible(~expected, cluster, position))


def test_each_seed_masks_as_many_as_it_is_told(kernels):
    """Beside others to the bit what it draws alone, in torch and in the kernels; as few and as many as can be."""
    _, device = kernels
    counts, keys = (1, 20, 36, 11), stream_keys([4, 4, 6, 9], "masks")
    told = torch.tensor(counts, dtype=torch.int32)
    together = draw_masked(keys, 3, 0, 7, 37, told, key_bits=7)
    for seed, count in enumerate(counts):
        alone = draw_masked(keys[seed : seed + 1], 3, 0, 7, 37, count, key_bits=7)
        assert (alone.sum(-1) == count).all()
        assert torch.equal(together[seed], alone[0])
    shown = visible_patches(keys.to(device), 3, 0, 7, 37, told.to(device))
    assert torch.equal(shown.cpu(), ~draw_masked(keys, 3, 0, 7, 37, told))


def test_packed_and_plain_masks_are_the_same(kernels):
    _, device = kernels
    keys = stream_keys([1], "masks", device)
    shown = visible_patches(keys, 0, 0, 3, 40, 25)
    assert torch.equal(shown.cpu(), ~draw_masked(keys.cpu(), 0, 0, 3, 40, 25))
    position = torch.arange(64, device=device, dtype=torch.int32)[None]
    position = torch.where(position < 40, position, -1)
    cluster = torch.zeros(1, 3, dtype=torch.int64, device=device)
    packed = visible_words(keys, 0, 0, cluster, position, 40, 25)
    assert torch.equal(packed.cpu(), words_of_visible(shown, cluster, position).cpu())


def test_kernel_draws_the_uniforms_of_torch_to_the_bit(kernels):
    module, device = kernels
    keys = stream_keys([0, 3], "latents")
    drawn = module.draw_uniforms(keys.to(device), 5, 1, 9, 7)
    assert torch.equal(drawn.cpu(), uniforms(keys, 5, 1, 9, 7))


DISTRIBUTIONS = [
    Uniform(low=0.5, high=2.0),
    TwoPoint(low=0.5, high=2.0, probability_high=0.3),
    Constant(value=1.5),
    TruncatedNormal(),
    TruncatedNormal(low=1.0, high=1.5, location=-1.0, scale=0.2),
]


@pytest.mark.parametrize(
    "distribution", DISTRIBUTIONS, ids=lambda distribution: f"{type(distribution).__name__}"
)
def test_latents_follow_their_law(distribution, statistics):
    drawn = draw_latents(distribution, stream_keys(range(8), "latents"), 1, 500, 4).double().numpy()
    assert distribution.low <= drawn.min() <= drawn.max() <= distribution.high
    statistics.assert_mean(drawn, distribution.mean)
    statistics.assert_mean(drawn**2, distribution.second_moment)


def test_quantile_of_the_truncated_normal_in_both_tails():
    uniform = torch.tensor([0.0, 1e-6, 0.25, 0.5, 0.999999], dtype=torch.float64)
    for location in (-1.0, 0.0, 1.2, 4.0):
        distribution = TruncatedNormal(low=1.0, high=1.5, location=location, scale=0.2)
        ends = (np.array([distribution.low, distribution.high]) - location) / distribution.scale
        exact = truncnorm.ppf(uniform.numpy(), *ends, loc=location, scale=distribution.scale)
        found = quantile(distribution, uniform)
        if location < 1.0:  # reflected: the same distribution, with 1 − u for u
            exact = truncnorm.ppf(1 - uniform.numpy(), *ends, loc=location, scale=distribution.scale)
        np.testing.assert_allclose(found.numpy(), exact, rtol=1e-9)


def test_laws_without_a_quantile_are_drawn_on_cpu():
    far = TruncatedNormal(low=1.0, high=1.5, location=-20.0, scale=0.2)
    for distribution in (Beta(), far):
        assert not has_quantile(distribution)
        with pytest.raises(ValueError, match="draw it on CPU"):
            quantile(distribution, torch.zeros(1))
        drawn = draw_on_cpu(distribution, [3], 2, 5, 4)
        assert torch.equal(drawn, draw_on_cpu(distribution, [1, 3], 2, 5, 4)[1:])
        assert distribution.low <= drawn.min() <= drawn.max() <= distribution.high
