"""One seed and one failure rate for the statistical tests of the data model.

The seed is 0, or what the environment variable VITDYN_TEST_SEED says. Every comparison allows 5 standard
errors, or for a chi-square the quantile of the same probability: a correct program fails one comparison
with probability 5.7e-7, and one of the about 100 comparisons below this folder with less than 1e-4.
"""

import os
from zlib import crc32

import numpy as np
import pytest
from scipy.stats import chi2, norm

STANDARD_ERRORS = 5.0
FAILURE_RATE = 2 * norm.sf(STANDARD_ERRORS)


class Statistics:
    """Comparisons of draws with a known truth."""

    def assert_mean(self, draws, expected):
        """Assert that the mean of independent draws is within 5 standard errors of the expected one."""
        error = np.std(draws, ddof=1) / np.sqrt(np.size(draws))
        assert abs(np.mean(draws) - expected) <= STANDARD_ERRORS * error + 1e-12 * abs(expected)

    def assert_uniform(self, counts):
        """Assert by a chi-square that all the counted outcomes are equally likely."""
        counts = np.asarray(counts)
        expected = counts.mean()
        assert expected >= 100, "too few draws for the chi-square approximation"
        assert ((counts - expected) ** 2 / expected).sum() <= chi2.isf(FAILURE_RATE, counts.size - 1)


@pytest.fixture(scope="session")
def statistics():
    return Statistics()


@pytest.fixture(scope="session")
def test_seed():
    return int(os.environ.get("VITDYN_TEST_SEED", "0"))


@pytest.fixture
def generator(test_seed, request):
    """A generator of this test alone: tests do not share draws."""
    return np.random.default_rng([test_seed, crc32(request.node.nodeid.encode())])
