"""A tiny training: two blocks, width 16, digits of 4 x 4 patches, few steps."""

from dataclasses import replace

import pytest

from vitdyn.practice import Analysis, Architecture, Pretraining

TINY = Pretraining(
    method="reconstruction",
    architecture=Architecture(width=16, layers=2, heads=2, decoder_width=8, decoder_heads=2),
    analysis=Analysis(images=24, objects=12, views=10),
    steps=5,
    batch=8,
    projection=8,
    temperature=0.3,
    seed=3,
)


@pytest.fixture
def tiny():
    def make(method="reconstruction", **changes):
        steps = {"steps": 0} if method == "untrained" else {}
        return replace(TINY, method=method, **{**steps, **changes})

    return make
