"""The diversity of attention maps in cases with a closed form (exact)."""

import numpy as np
import pytest
import torch

from vitdyn.metrics import top_key_concentration

KEYS = 16


def one_key(share, keys=KEYS):
    """Every query gives ``share`` to key 3 and spreads the rest evenly over the others."""
    attention = torch.full((keys, keys), (1 - share) / (keys - 1), dtype=torch.float64)
    attention[:, 3] = share
    return attention


@pytest.mark.parametrize("top", [1, 4, 10, 16, 99])
class TestClosedForms:
    def test_uniform(self, top):
        attention = torch.full((KEYS, KEYS), 1 / KEYS, dtype=torch.float64)
        np.testing.assert_allclose(top_key_concentration(attention, top=top), 1 / KEYS)

    def test_permutation(self, top, rng):
        attention = torch.eye(KEYS, dtype=torch.float64)[rng.permutation(KEYS)]
        np.testing.assert_allclose(top_key_concentration(attention, top=top), 1 / KEYS)

    def test_one_key_takes_all(self, top):
        np.testing.assert_allclose(top_key_concentration(one_key(1.0), top=top), 1 / min(top, KEYS))

    def test_one_key_takes_a_share(self, top):
        count = min(top, KEYS)
        expected = (0.7 + (count - 1) * 0.3 / (KEYS - 1)) / count
        np.testing.assert_allclose(top_key_concentration(one_key(0.7), top=top), expected)


def test_ten_keys_are_the_default():
    np.testing.assert_allclose(top_key_concentration(one_key(1.0)), 1 / 10)
    np.testing.assert_allclose(top_key_concentration(one_key(1.0, keys=5)), 1 / 5)


def test_scores_are_of_keys_not_of_queries():
    """One query that attends to a key of its own does not make that key a favourite of all."""
    attention = torch.full((2, 3), 0.0, dtype=torch.float64)
    attention[0, 0] = attention[1, 1] = 1.0
    np.testing.assert_allclose(top_key_concentration(attention, top=1), 0.5)
    np.testing.assert_allclose(top_key_concentration(attention, top=3), 1 / 3)


def test_leading_axes_are_kept():
    stacked = torch.stack([one_key(share) for share in (0.2, 0.9)])[:, None].expand(2, 3, KEYS, KEYS)
    found = top_key_concentration(stacked, top=2)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[1], (0.9 + 0.1 / 15) / 2)
    assert (found[0] < found[1]).all()


@pytest.mark.parametrize("top", [0, -1, 1.5, None])
def test_a_bad_count_is_named(top, complaint):
    with complaint("top", "1 or more"):
        top_key_concentration(one_key(0.5), top=top)
