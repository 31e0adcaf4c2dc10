"""What a step of a Transformer costs, its seeds as one batch and one after another (``make bench``).

No time is asserted. Where all is measured, ``theory_notes/speed-models.md`` is written.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from measure import in_turn, machine, ratios, spent, spread
from model_step import SAMPLES, SEEDS, Case
from report import NOTES, cell, machine_line, number, table

SECONDS = float(os.environ.get("VITDYN_BENCH_SECONDS", "8")) / 4
CASES = [
    (16, 1, 1), (64, 1, 1), (64, 1, 4), (64, 1, 8), (64, 2, 4), (64, 4, 1), (64, 4, 8), (128, 1, 1), (128, 4, 4),
    (256, 1, 1), (256, 1, 8), (256, 4, 1), (256, 4, 8),
]  # fmt: skip
WORDS = {
    "module": "module, one seed after another",
    "batch": "all 8 seeds as one batch",
    "training": "as training groups them",
}


@pytest.mark.parametrize("case", [(13, 1, 3), (16, 3, 2)], ids=str)
def test_a_module_and_a_batch_take_the_same_gradient(case):
    found = {name: step() for name, step in Case(*case, seeds=3).steps().items()}
    whole = found["batch"][0]
    for name in ("feature_position", "position_position"):
        truth = getattr(whole, name)
        parts = torch.cat([getattr(part, name) for part in found["training"]])
        modules = torch.stack([each[name == "position_position"] for each in found["module"]])
        for other in (parts, modules):
            torch.testing.assert_close(other, truth, rtol=1e-4, atol=1e-5 * float(truth.abs().max()))


@pytest.fixture(scope="module")
def results():
    """What was found, written to the notes once nothing is missing."""
    found, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    yield found
    torch.set_num_threads(threads)
    if len(found) == len(CASES):
        (NOTES / "speed-models.md").write_text(page(found))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_step(benchmark, case, results):
    """All ways in turn; pytest-benchmark's own table shows the batch."""
    steps = Case(*case).steps()
    known = {name: spent(step)[0] for name, step in steps.items()}
    samples, _ = in_turn(steps, SECONDS, known)
    results[case] = {
        "seconds": {name: spread([one / SEEDS for one in values]) for name, values in samples.items()},
        "less": {name: ratios(samples["module"], samples[name]) for name in ("batch", "training")},
        "memory": peaks(case),
    }
    benchmark.extra_info |= results[case]
    benchmark.pedantic(steps["batch"], rounds=3)


def peaks(case):
    """Return the MiB at the peak of two steps by each way, parameters and data not counted, in a new process."""
    command = [sys.executable, str(Path(__file__).with_name("model_step.py")), *map(str, case)]
    # what is freed goes back to the system at once: arrays in use are counted, not what the C library keeps
    plain = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    given = plain | {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=given)
    return dict(zip(WORDS, map(float, done.stdout.split()), strict=True))


def page(found):
    """The page of the notes."""
    rows = [
        [
            ", ".join(map(str, case)),
            *(cell(entry["seconds"][name], 1000) for name in WORDS),
            *(cell(entry["less"][name]) for name in ("batch", "training")),
            *(number(entry["memory"][name], 2) for name in WORDS),
        ]
        for case, entry in found.items()
    ]
    less = ("module / batch", "module / training")
    head = ["P, layers, heads", *WORDS.values(), *less, *(f"MiB, {name}" for name in WORDS)]
    return f"""# Speed of models beyond the layer

What a step of `Transformer` costs, written by `make bench`. {machine_line({"machine": machine()})}

Milliseconds of processor time for one seed and step, median [quartiles], one core, float32: the gradient of masked
reconstruction, {SAMPLES} samples, {SEEDS} seeds, position queries, a residual where there are several layers. The
module has the same blocks Φ and Υ, with heads and samples as axes, and is given its data; it is called for one seed
after another. On a CPU training takes as many seeds together as leave a group near the cache
(`vitdyn/dynamics/memory.py`). MiB are those of two steps of all seeds, above parameters and data.

{table(head, rows)}
"""
