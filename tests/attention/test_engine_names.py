"""Results and ``vitdyn env`` say what computed attention; a compiled engine is not dropped without a word."""

import re

import pytest
import torch

from vitdyn.attention import engine_name, factored, products
from vitdyn.data import PatchLayout
from vitdyn.dynamics.resources import machine_name


@pytest.fixture
def no_folder_for_its_cache(monkeypatch):
    """Make the import of compiled kernels fail as numba does where it may write nowhere."""

    def fails(name):
        raise RuntimeError(f"cannot cache function 'fill': no locator available\nfor file {name}")

    monkeypatch.setattr(factored, "import_module", fails)
    factored._engine.cache_clear()
    yield
    factored._engine.cache_clear()


def test_the_words_name_the_engine_that_runs():
    layout, words = PatchLayout.from_sizes([[3, 2]]), engine_name("cpu")
    plain = factored._engine("cpu") is products
    assert words.startswith("plain torch" if plain else "compiled kernels (")
    assert f"torch {torch.backends.cpu.get_cpu_capability()}" in words
    assert engine_name("cpu", layout, torch.float32) == words
    assert engine_name("cpu", layout, torch.float16).startswith("plain torch")


def test_a_dropped_engine_is_said_on_one_line_and_named(no_folder_for_its_cache):
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR") as said:
        assert engine_name("cpu").startswith("plain torch")
        engine_name("cpu")
    assert len(said) == 1 and "\n" not in str(said[0].message)


def test_the_machine_is_named_by_its_kind_and_not_by_its_host():
    import platform

    assert platform.machine() in machine_name() and platform.system() in machine_name()
    assert not re.search(r"\n|^,|,\s*,", machine_name())
    if platform.node() not in ("", platform.machine()):
        assert platform.node() not in machine_name()
