"""The examples of ``vd.landscape`` run (exact)."""

import doctest

import pytest

import vitdyn as vd


@pytest.mark.parametrize("name", vd.landscape.__all__)
def test_its_example_runs(name):
    offered = getattr(vd.landscape, name)
    text = offered.__doc__ if offered.__module__.startswith("vitdyn.") else ""  # the rest are names of types
    example = doctest.DocTestParser().get_doctest(text or "", {"vd": vd}, name, None, None)
    said: list[str] = []
    assert not doctest.DocTestRunner(verbose=False).run(example, out=said.append).failed, "".join(said)
