"""What one gradient costs, beside what a user writes first (``make bench``). Ratios carry over, seconds do not."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from naive import NaiveReconstruction

from vitdyn.attention import Correlations
from vitdyn.data import PatchGenerator, PatchLayout, orthonormal_basis
from vitdyn.dynamics import BatchSource, loss_gradient
from vitdyn.dynamics.gradient import Workspaces
from vitdyn.objectives import MaskedReconstruction

SIZES = [(64, 64, 8), (128, 64, 8), (256, 64, 4)]


def problem(patches: int, samples: int, seeds: int):
    layout = PatchLayout.from_sizes(
        [patches - 3 * (patches // 8)] + [patches // 8] * 3, arrangement="contiguous"
    )
    objective = MaskedReconstruction()
    source = BatchSource(
        PatchGenerator(layout=layout),
        objective,
        tuple(range(seeds)),
        samples,
        None,
        torch.float32,
        torch.device("cpu"),
    )
    batch, views = source.training(0, None)
    correlations, workspaces = Correlations.zeros(layout, seeds, dtype=torch.float32), Workspaces()
    ours = lambda: loss_gradient(correlations, objective, batch, views, {}, workspaces)[0]  # noqa: E731
    return ours, NaiveReconstruction(batch, views[0]), layout


def seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@pytest.fixture(autouse=True)
def one_thread():
    """One core for both: `simulate` uses further cores by training whole groups of seeds side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradient_against_naive(benchmark, size):
    """Times both in turn, so that a drift of the machine falls on both; the table shows ours, extra_info the ratio."""
    ours, naive, layout = problem(*size)
    basis = orthonormal_basis(layout, dtype=torch.float32)
    by_hand = Correlations.from_matrix(torch.stack(naive.gradients()), basis)
    torch.testing.assert_close(ours().feature_position, by_hand.feature_position, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours().position_position, by_hand.position_position, rtol=1e-4, atol=1e-5)

    ratios = []
    for _ in range(9):
        slow = seconds(naive.gradients)
        ratios.append(slow / np.median([seconds(ours) for _ in range(9)]))
    benchmark.extra_info["times less than naive"] = {
        "median": float(np.median(ratios)), "least": min(ratios), "most": max(ratios)
    }  # fmt: skip
    print(f"\n{size}: {np.median(ratios):.0f} times less than naive "
          f"({min(ratios):.0f} to {max(ratios):.0f})")  # fmt: skip
    benchmark.pedantic(ours, rounds=30, warmup_rounds=3)


def test_peak_memory(benchmark):
    """Peak resident memory of twenty gradients at (256, 64, 4) above what the imports take, in a process of its own."""
    script = """
import pathlib, sys, torch
sys.path.insert(0, "tests/benchmarks")
import test_step_cost
torch.set_num_threads(1)
test_step_cost.only_ours(1, patches=16)  # loads the compiled kernels

def status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) / 1024

before = status("VmRSS")
pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
test_step_cost.only_ours(20)
print(status("VmHWM") - before)
"""
    found = benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True),
        rounds=1,
    )
    benchmark.extra_info["MiB above imports"] = float(found.stdout)
    print(f"\npeak memory above imports: {float(found.stdout):.1f} MiB")
    assert float(found.stdout) < 32


def only_ours(count: int, patches: int = 256) -> None:
    """Draw a batch and take its gradient, ``count`` times, at (patches, 64, 4)."""
    layout = PatchLayout.from_sizes(
        [patches - 3 * (patches // 8)] + [patches // 8] * 3, arrangement="contiguous"
    )
    objective, workspaces = MaskedReconstruction(), Workspaces()
    source = BatchSource(
        PatchGenerator(layout=layout), objective, (0, 1, 2, 3), 64, None, torch.float32, torch.device("cpu")
    )
    correlations = Correlations.zeros(layout, 4, dtype=torch.float32)
    for step in range(count):
        batch, views = source.training(step, None)
        loss_gradient(correlations, objective, batch, views, {}, workspaces)
