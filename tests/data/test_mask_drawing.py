"""Masks are drawn uniformly from any start (statistical), and to one result by any way of running (exact)."""

from itertools import combinations

import numpy as np
import pytest

from vitdyn.data import masking, subsets
from vitdyn.data.masking import draw_view_pair, draw_visible
from vitdyn.seeds import Streams, stream

SHAPES = [
    (7, 64, 32),
    (64, 64, 32),
    (5, 100, 25),
    (3, 257, 31),
    (9, 1000, 3),
    (4, 1000, 997),
    (2, 5000, 1850),
]


@pytest.fixture
def starting(monkeypatch):
    """Make every draw start with the given depth and numerator."""

    def set_start(depth, numerator):
        masking._plan.cache_clear()
        monkeypatch.setattr(masking, "_start", lambda patches, masked: (depth, numerator, 3.0 * patches))

    yield set_start
    masking._plan.cache_clear()


@pytest.fixture
def uncompiled(monkeypatch):
    """Run the loops as plain Python, which checks what compiled code takes on trust: bounds and overflow."""

    def switch():
        for name in ("start", "repair", "start_and_repair"):
            monkeypatch.setattr(subsets, name, getattr(subsets, name).py_func)

    return switch


@pytest.fixture
def scarce(monkeypatch):
    """Leave only the given number of words for the positions, again and again."""

    def leave(count):
        masking._plan.cache_clear()
        monkeypatch.setattr(masking, "_budget", lambda samples, tries, width: count)

    yield leave
    masking._plan.cache_clear()


def hidden_code(visible):
    return (~visible) @ (1 << np.arange(visible.shape[1]))


def assert_every_subset_equally_likely(visible, masked, statistics):
    patches = visible.shape[1]
    codes = [sum(1 << place for place in subset) for subset in combinations(range(patches), masked)]
    found = np.bincount(hidden_code(visible), minlength=2**patches)[codes]
    assert found.sum() == len(visible)
    statistics.assert_uniform(found)


@pytest.mark.parametrize("start", [(0, 0), (0, 1), (1, 1), (2, 1), (2, 3), (3, 5), (8, 3), (8, 251)], ids=str)
def test_the_law_is_uniform_whatever_the_start(starting, generator, statistics, start):
    """Starts far too full and far too empty: 2 or 4 of 6 patches hidden."""
    starting(*start)
    for masked in (2, 4):
        visible = draw_visible(generator, 20_000, 6, masked)
        assert_every_subset_equally_likely(visible, masked, statistics)


@pytest.mark.parametrize(("depth", "numerator"), [(1, 1), (2, 1), (2, 3), (3, 3), (3, 5), (5, 19), (8, 151)])
def test_a_start_has_the_probability_that_was_asked(generator, statistics, depth, numerator):
    words = masking._words(generator, 40 * 250 // 64 * depth + depth)
    members, counts = np.empty((40, 250), dtype=np.uint8), np.empty(40, dtype=np.int64)
    subsets.start(words, depth, numerator, members, counts)
    statistics.assert_mean(members.ravel().astype(float), numerator / 2**depth)
    assert (counts == members.sum(1)).all()


@pytest.mark.parametrize(("patches", "masked"), [(64, 32), (100, 37), (100, 93), (65, 1), (300, 225)])
def test_each_patch_and_each_pair_is_hidden_as_often_as_any_other(generator, patches, masked):
    """Inclusion of patches and of pairs, largest deviation in standard errors; neighbours and far pairs alike."""
    samples = 40_000
    hidden = (~draw_visible(generator, samples, patches, masked)).astype(np.float32)
    share = masked / patches
    both = share * (masked - 1) / (patches - 1)
    together = hidden.T @ hidden / samples
    alone = np.diag(together)
    pairs = together[np.triu_indices(patches, 1)]
    assert np.abs(alone - share).max() <= 6 * np.sqrt(share * (1 - share) / samples)
    assert np.abs(pairs - both).max() <= 7 * np.sqrt(both * (1 - both) / samples)


def test_wide_chunks_choose_places_uniformly(generator, statistics):
    """Beyond the size where 16 bits serve, by 32: the hidden patch of 5000, by twentieths of the image."""
    _, places = np.nonzero(~draw_visible(generator, 4_000, 5000, 1))
    statistics.assert_uniform(np.bincount(places // 250, minlength=20))


@pytest.mark.parametrize("patches", [3, 48, 100])
def test_places_have_no_bias_at_all(patches):
    """Exact: of all 2^16 chunks each place is chosen by as many as any other, and the rest are rejected."""
    each = 2**16 // patches
    members, counts = np.zeros((each * patches, patches), dtype=np.uint8), np.zeros(each * patches, dtype=int)
    chunks = np.arange(2**16, dtype=np.uint16)
    assert subsets.repair(members, counts, 1, chunks, 16, 0, 0) == len(members)
    assert (members.sum(1) == 1).all()
    assert (members.sum(0) == each).all()


@pytest.mark.parametrize(("samples", "patches", "masked"), SHAPES)
def test_the_same_bits_compiled_and_not(uncompiled, samples, patches, masked):
    drawn = [draw_visible(stream(5, "masks", step), samples, patches, masked) for step in range(4)]
    uncompiled()
    for step, compiled in enumerate(drawn):
        assert np.array_equal(draw_visible(stream(5, "masks", step), samples, patches, masked), compiled)


@pytest.mark.parametrize(("samples", "patches", "masked"), SHAPES)
def test_seeds_together_draw_what_each_draws_alone(samples, patches, masked):
    streams = Streams((5, 0, 2**40), "masks", 3)
    alone = [draw_visible(one, samples, patches, masked) for one in streams.each()]
    assert np.array_equal(draw_visible(streams, samples, patches, masked), alone)


@pytest.mark.parametrize("start", [(0, 0), (0, 1), (2, 1), (8, 251)], ids=str)
@pytest.mark.parametrize(("samples", "patches", "masked"), [(9, 70, 30), (2, 5000, 1850)])
def test_seeds_together_take_as_many_words_as_they_need(starting, start, samples, patches, masked):
    """Starts far from the aim, so that words run out many times over; chunks of 16 and of 32 bits."""
    starting(*start)
    streams = Streams((1, 7), "evaluation masks", 2**40)
    alone = [draw_visible(one, samples, patches, masked) for one in streams.each()]
    assert np.array_equal(draw_visible(streams, samples, patches, masked), alone)


@pytest.mark.parametrize("kind", ["independent", "complementary"])
def test_pairs_of_views_of_seeds_together(kind):
    streams = Streams((4, 9), "masks", 1)
    together = draw_view_pair(streams, 6, 30, 11, kind)
    each = [draw_view_pair(one, 6, 30, 11, kind) for one in streams.each()]
    for view, alone in zip(together, zip(*each, strict=True), strict=True):
        assert np.array_equal(view, alone)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_words_that_run_out_are_drawn_anew(scarce, generator, statistics, count):
    """The size stays exact and the distribution uniform where each sample takes several draws of words."""
    scarce(count)
    visible = draw_visible(generator, 3_000, 6, 2)
    assert_every_subset_equally_likely(visible, 2, statistics)
    long = draw_visible(generator, 20, 700, 200)
    assert (long.sum(1) == 500).all()


def test_a_sample_goes_on_where_it_stopped():
    """The same chunks all at once, or one by one: the same subsets."""
    chunks = stream(0, "user").bit_generator.random_raw(64 * 40).view(np.uint16)
    whole, counts = np.zeros((12, 96), dtype=np.uint8), np.zeros(12, dtype=np.int64)
    whole[::2], counts[::2] = 1, 96
    part, done, at = whole.copy(), 0, 0
    assert subsets.repair(whole, counts.copy(), 40, chunks, 16, 0, 0) == 12
    while done < 12:
        done = subsets.repair(part, counts, 40, chunks[at : at + 1], 16, 0, done)
        at += 1
    assert (part.sum(1) == 40).all()
    assert np.array_equal(whole, part)


@pytest.mark.parametrize("kind", [np.random.Philox, np.random.PCG64, np.random.SFC64, np.random.MT19937])
def test_words_have_64_random_bits_from_any_generator(kind):
    words = masking._words(np.random.Generator(kind(3)), 4000)
    again = np.random.Generator(kind(3)).integers(0, 2**64 - 1, 4000, dtype=np.uint64, endpoint=True)
    assert np.array_equal(words, again)
    ones = np.unpackbits(words.view(np.uint8).reshape(-1, 8), axis=1).mean(0)
    assert np.abs(ones - 0.5).max() < 5.5 * 0.5 / np.sqrt(4000)


def test_seeds_and_steps_draw_different_masks():
    drawn = {
        draw_visible(stream(seed, "masks", step), 4, 64, 32).tobytes()
        for seed in range(5)
        for step in range(5)
    }
    assert len(drawn) == 25


def test_a_draw_depends_on_its_stream_alone():
    alone = draw_visible(stream(2, "masks", 7), 8, 64, 20)
    draw_visible(stream(1, "masks", 7), 300, 64, 20)
    np.random.default_rng(0).random(5)
    assert np.array_equal(draw_visible(stream(2, "masks", 7), 8, 64, 20), alone)


@pytest.mark.parametrize(("masked", "patches"), [(4, 4), (5, 4), (1, 2**31)])
def test_sizes_out_of_range_are_refused(complaint, masked, patches):
    with complaint("masked", "must leave one of"):
        draw_visible(np.random.default_rng(0), 1, patches, masked)


@pytest.mark.parametrize(
    ("patches", "masked"), [(64, 32), (256, 95), (1000, 3), (4096, 3686), (10**6, 10**5)]
)
def test_budgets_nearly_always_suffice(patches, masked):
    """Of 40 batches none takes a second draw of words, and no draw is four times what is used."""
    used = []
    for step in range(40 if patches < 10**5 else 2):
        generator, samples = stream(0, "user", step), 16
        plan = masking._plan(samples, patches, masked)
        before = generator.bit_generator.state["state"]["counter"][0]
        draw_visible(generator, samples, patches, masked)
        used.append((generator.bit_generator.state["state"]["counter"][0] - before) * 4)
        assert used[-1] <= plan.words + 4
    assert plan.words - plan.need <= 16 + 8 * (samples * plan.tries * plan.width / 64)
