"""Stores whose processes are killed at random moments, or share a folder: the same bits, and nothing left behind."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Momentum, Schedule, Training
from vitdyn.experiments import Experiment, ResultStore, run
from vitdyn.objectives import MaskedReconstruction

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

TRAINING = Training(
    generator=PatchGenerator(layout=PatchLayout.from_sizes([[6, 3, 2], [5, 6]], seed=2)),
    objective=MaskedReconstruction(),
    steps=40,
    batch_size=6,
    evaluation_samples=5,
    seeds=(3, 8),
    schedule=Schedule(frames=12),
)
CELLS = [
    Experiment(
        name=f"cell-{index}", training=replace(TRAINING, optimizer=Momentum(learning_rate=0.1 + index / 9))
    )
    for index in range(4)
]

STORE = """
import os, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_killed_stores import CELLS
from vitdyn.dynamics.checkpoint import Checkpointer
from vitdyn.experiments import ResultStore, run
Checkpointer.should_save = lambda *_: True
run(CELLS[0])  # loads compiled code, which takes longer than the training that the kills are to meet
folder = Path(sys.argv[1])
for number, pause in enumerate(map(float, sys.argv[2:])):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ResultStore(folder).all(CELLS[: 3 + number % 2])
            code = 0
        finally:
            os._exit(code)
    if pause >= 0:
        time.sleep(pause)
        os.kill(pid, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def begin(folder, pauses):
    command = [sys.executable, "-c", STORE, str(folder), *map(str, pauses)]
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": here},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(folder):
    """All four results have the bits of runs by themselves, and the folder has nothing else."""
    store = ResultStore(folder, redraw=True)
    for each, found in zip(CELLS, store.all(CELLS), strict=True):
        assert found.dataset.drop_attrs().identical(run(each).dataset.drop_attrs())
    assert sorted(folder.iterdir()) == sorted(map(store.path, CELLS))


def test_killed_while_they_train_write_and_save(tmp_path, rng):
    """Ten times, with three cells and with four in turns; then to the end, and once more to clear up."""
    pauses = [*rng.uniform(0.01, 0.35, size=10).round(3).tolist(), -1, -1]
    process = begin(tmp_path, pauses)
    told, said = process.communicate(timeout=200)
    codes = list(map(int, told.split()))
    assert codes[-2:] == [0, 0] and set(codes) <= {0, -signal.SIGKILL}, said
    assert codes.count(-signal.SIGKILL) >= 3
    check(tmp_path)


def test_two_processes_on_one_folder(tmp_path):
    """They write the same checkpoints and results, and clear nothing that the other still writes."""
    first, second = begin(tmp_path, [-1, -1]), begin(tmp_path, [-1, -1])
    for process in (first, second):
        told, said = process.communicate(timeout=200)
        assert told.split() == ["0", "0"], said
    ResultStore(tmp_path)(CELLS[0])
    check(tmp_path)
