"""The table of costs says what was measured when it was made, also of runs that were not fitted (exact)."""

import json

import pytest
from cost_table import FITTED, HELD_OUT, units

from vitdyn.experiments.cost import TABLE


@pytest.mark.parametrize("name", FITTED | HELD_OUT)
def test_the_formula_is_within_a_factor_of_two(name):
    table = json.loads(TABLE.read_text())
    assert table["measured"].keys() == (FITTED | HELD_OUT).keys()
    told = sum(table["seconds"][unit] * count for unit, count in units((FITTED | HELD_OUT)[name]).items())
    assert 0.5 < told / table["measured"][name] < 2
