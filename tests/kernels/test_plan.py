"""Which path and backend the plan takes; a dropped backend is said on one line (exact)."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch

from vitdyn.data import PatchLayout
from vitdyn.dynamics.resources import machine_name
from vitdyn.kernels import Path, plan, plan_for, torch_backend
from vitdyn.kernels.plan import backend_name

LAYOUT, SINGLE = PatchLayout.from_sizes([[3, 2]]), torch.float32


@pytest.fixture
def fresh():
    """Plans that have decided nothing yet."""
    plan._backend.cache_clear()
    yield
    plan._backend.cache_clear()


@pytest.fixture
def no_folder_for_its_cache(monkeypatch, fresh):
    """Make the import of compiled kernels fail as numba does where it may write nowhere."""

    def fails(name):
        raise RuntimeError(f"cannot cache function 'fill': no locator available\nfor file {name}")

    monkeypatch.setattr(plan, "import_module", fails)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, Path.FACTORED),
        ({"residual": True}, Path.RESIDUAL),
        ({"mean_pooled": True}, Path.MEAN_POOLED),
        ({"residual": True, "mean_pooled": True}, Path.MEAN_POOLED),
        ({"content_queries": True}, Path.AUTOGRAD),
        ({"content_queries": True, "residual": True}, Path.RESIDUAL),
        ({"content_queries": True, "mean_pooled": True}, Path.AUTOGRAD),
    ],
)
def test_paths_on_cpu(given, path):
    pytest.importorskip("numba")
    found = plan_for(LAYOUT, "cpu", SINGLE, **given)
    assert found.path is path
    assert found.is_fused == (path in (Path.RESIDUAL, Path.MEAN_POOLED))
    assert found.is_seed_independent == ("content_queries" not in given)


def test_other_types_and_devices_are_plain_torch(monkeypatch, fresh):
    for device, dtype in (("cpu", torch.bfloat16), ("mps", SINGLE)):
        found = plan_for(LAYOUT, device, dtype, mean_pooled=True)
        assert found.backend is torch_backend and found.path is Path.FACTORED
        assert not found.is_seed_independent and found.name.startswith("plain torch")
    plan._backend.cache_clear()
    monkeypatch.setitem(sys.modules, "vitdyn.kernels.cpu.backend", None)
    with pytest.warns(RuntimeWarning, match="no compiled kernels for cpu"):
        assert plan_for(LAYOUT, "cpu", SINGLE).backend is torch_backend


def test_numbers_kept_of_attention():
    pytest.importorskip("numba")
    numbers = {
        path: plan_for(LAYOUT, "cpu", SINGLE, **given).stored_numbers(7, 11, 2)
        for path, given in (
            ("residual", {"residual": True}),
            ("pooled", {"mean_pooled": True}),
            ("factored", {}),
        )
    }
    assert numbers == {"residual": 0, "pooled": 3 * 7**2, "factored": 2 * 7 * 2 * 5}
    content = plan_for(LAYOUT, "cpu", SINGLE, content_queries=True, residual=True)
    assert content.stored_numbers(7, 11, 2) == 4 * 11 * 5**2


def test_the_words_name_the_backend_that_runs():
    words, plain = backend_name("cpu"), plan._backend("cpu") is torch_backend
    assert words.startswith("plain torch" if plain else "compiled kernels (")
    assert f"torch {torch.backends.cpu.get_cpu_capability()}" in words
    assert plan_for(LAYOUT, "cpu", SINGLE).name == words
    assert plan_for(LAYOUT, "cpu", SINGLE, content_queries=True).name.startswith("plain torch")


def test_a_dropped_backend_is_said_on_one_line_and_named(no_folder_for_its_cache):
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR") as said:
        assert backend_name("cpu").startswith("plain torch")
        backend_name("cpu")
    assert len(said) == 1 and "\n" not in str(said[0].message)


@pytest.mark.parametrize("is_right", [True, False])
def test_kernels_that_fail_their_check_on_a_gpu_give_way_to_torch(is_right, monkeypatch, fresh):
    """Once a process, with one line; the check is taken for what it says."""
    kernels = SimpleNamespace(**vars(torch_backend))
    asked = []
    monkeypatch.setattr(plan, "import_module", lambda name: kernels)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        plan, "mistakes_of", lambda *given: asked.append(given) or ("" if is_right else "attention is off")
    )
    if is_right:
        assert plan_for(LAYOUT, "cuda", SINGLE).backend is kernels
    else:
        with pytest.warns(RuntimeWarning, match="fail their check on this GPU .attention is off") as said:
            found = [plan_for(LAYOUT, "cuda", SINGLE, residual=True) for _ in range(3)]
        assert len(said) == 1 and "\n" not in str(said[0].message)
        assert all(one.backend is torch_backend and one.path is Path.RESIDUAL for one in found)
    plan_for(LAYOUT, "cuda", SINGLE)
    assert asked == [(kernels, "cuda")]


def test_the_machine_is_named_by_its_kind_and_not_by_its_host():
    import platform

    assert platform.machine() in machine_name() and platform.system() in machine_name()
    assert not re.search(r"\n|^,|,\s*,", machine_name())
    if platform.node() not in ("", platform.machine()):
        assert platform.node() not in machine_name()
