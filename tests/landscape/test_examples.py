"""The examples of what ``vd.landscape`` offers run (exact)."""

import doctest

import pytest

import vitdyn as vd

EXAMPLES = [name for name in vd.landscape.__all__ if ">>>" in (getattr(vd.landscape, name).__doc__ or "")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_example_runs(name):
    found = doctest.DocTestFinder().find(getattr(vd.landscape, name), name, globs={"vd": vd})
    said: list[str] = []
    outcomes = [doctest.DocTestRunner(verbose=False).run(each, out=said.append) for each in found]
    assert sum(each.attempted for each in outcomes)
    assert not any(each.failed for each in outcomes), "".join(said)
