"""Examples in the docstrings of predictions run and give what they say (exact)."""

import doctest
import inspect

import pytest

import vitdyn as vd

WITH_EXAMPLE = [
    name for name in vd.theory.__all__ if ">>>" in (inspect.getdoc(getattr(vd.theory, name)) or "")
]


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_its_example_runs(name):
    example = doctest.DocTestParser().get_doctest(
        getattr(vd.theory, name).__doc__, {"vd": vd, **vars(vd.theory)}, name, None, None
    )
    said: list[str] = []
    assert not doctest.DocTestRunner(verbose=False).run(example, out=said.append).failed, "".join(said)
