"""Random streams (exact): each is a function of seed, purpose and step alone, and no two are the same."""

import pickle
from itertools import combinations, product

import numpy as np
import pytest

from vitdyn.data.stream_words import fill_whole_numbers, fill_words
from vitdyn.seeds import PURPOSES, Streams, stream


def first_draws(*key):
    return stream(*key).integers(0, 2**63, 8)


def test_same_key_same_stream():
    assert np.array_equal(first_draws(3, "masks", 5), first_draws(3, "masks", 5))


def test_default_step_is_the_first():
    assert np.array_equal(first_draws(3, "masks"), first_draws(3, "masks", 0))


def test_no_two_keys_share_a_stream():
    keys = product([0, 1, 2, 2**32, 2**70], PURPOSES, [0, 1, 2, 2**32])
    drawn = {key: tuple(first_draws(*key)) for key in keys}
    assert len(set(drawn.values())) == len(drawn) == 5 * len(PURPOSES) * 4


def test_a_stream_is_philox_with_the_key_and_the_counter_that_are_documented():
    key = np.random.SeedSequence(7, spawn_key=(PURPOSES.index("masks"),)).generate_state(2, np.uint64)
    philox = np.random.Philox(key=key, counter=np.array([0, 0, 0, 3], dtype=np.uint64))
    assert np.array_equal(first_draws(7, "masks", 3), np.random.Generator(philox).integers(0, 2**63, 8))


def test_a_stream_can_be_pickled_and_goes_on_from_there():
    generator = stream(3, "masks", 5)
    generator.random(3)
    again = pickle.loads(pickle.dumps(generator))
    assert np.array_equal(again.random(5), generator.random(5))
    assert np.array_equal(first_draws(3, "masks", 5), stream(3, "masks", 5).integers(0, 2**63, 8))


def test_streams_of_neighbouring_steps_do_not_overlap():
    """A long run of one step's stream never meets the beginning of the next step's."""
    runs = [stream(0, "latents", step).integers(0, 2**63, 4000) for step in range(4)]
    assert not any(np.intersect1d(one, two).size for one, two in combinations(runs, 2))


def test_order_of_use_does_not_matter():
    before = first_draws(1, "clusters", 2)
    stream(1, "clusters", 1).random(1000)
    stream(2, "clusters", 2).random(1000)
    assert np.array_equal(before, first_draws(1, "clusters", 2))


def test_global_state_is_neither_used_nor_changed():
    before = np.random.get_state()  # noqa: NPY002  (the global state is what is watched)
    first_draws(0, "user")
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_numpy_integers_are_seeds():
    assert np.array_equal(first_draws(np.int64(3), "masks", np.int64(5)), first_draws(3, "masks", 5))


def test_draws_are_fixed_for_all_time():
    """Saved results name their seeds: a change of these numbers is a change of every published run."""
    assert stream(0, "latents").bit_generator.random_raw(2).tolist() == [
        0xE8B51FF58D7EDB7C,
        0xD97FF25BE7BA25CE,
    ]
    assert stream(7, "masks", 3).bit_generator.random_raw(2).tolist() == [
        0x997FABF7BFEDFEFA,
        0x6D3456F8BAF2E9D8,
    ]


@pytest.mark.parametrize("step", [0, 3, 2**40])
@pytest.mark.parametrize("block", [0, 1, 1000])
def test_words_are_those_of_the_stream(step, block):
    streams = Streams((7, 0, 2**70), "masks", step)
    for key, one in zip(streams.keys, streams.each(), strict=True):
        words = np.empty(40, dtype=np.uint64)
        fill_words(key, step, block, words)
        assert np.array_equal(words, one.bit_generator.random_raw(4 * block + 40)[4 * block :])


@pytest.mark.parametrize("bound", [2, 3, 1000, 3 * 2**30])
def test_whole_numbers_are_those_of_the_stream(bound):
    """Of the largest bound a quarter of the tries is rejected."""
    streams, numbers = Streams((7, 0, 2**70), "clusters", 3), np.empty((3, 101), dtype=np.int64)
    fill_whole_numbers(streams.keys, streams.step, bound, numbers)
    assert np.array_equal(numbers, [one.integers(0, bound, 101) for one in streams.each()])


def test_streams_are_those_of_their_seeds():
    together = [one.integers(0, 2**63, 8) for one in Streams((4, 9), "masks", 5).each()]
    assert np.array_equal(together, [first_draws(4, "masks", 5), first_draws(9, "masks", 5)])


def test_a_number_that_equals_a_seed_is_none():
    Streams((1,), "masks").keys
    with pytest.raises(ValueError, match=r"\Aseeds = 1\.0: must be a whole number, 0 or more\Z"):
        Streams((1.0,), "masks").keys


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ((-1, "masks", 0), r"\Aseeds? = -1: must be a whole number, 0 or more\Z"),
        ((0.5, "masks", 0), r"\Aseeds? = 0\.5: must be a whole number, 0 or more\Z"),
        ((0, "masks", -1), r"\Astep = -1: must be a whole number, 0 or more\Z"),
        ((0, "masks", 1.0), r"\Astep = 1\.0: must be a whole number, 0 or more\Z"),
        ((0, "mask", 0), r"\Apurpose = 'mask': must be one of layout, basis, .*, user, .*\Z"),
    ],
)
def test_bad_values_are_named(key, message):
    with pytest.raises(ValueError, match=message):
        stream(*key)
    seed, *rest = key
    with pytest.raises(ValueError, match=message):
        Streams((seed,), *rest).keys
