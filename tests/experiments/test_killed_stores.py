"""Stores whose processes are killed at random moments, or share a folder: the same bits, and nothing left behind."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Momentum, Schedule, Training
from vitdyn.experiments import Experiment, ResultStore, run
from vitdyn.objectives import MaskedReconstruction

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes"),
    pytest.mark.xdist_group("killed stores"),
]

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

def begin(folder, *counts):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for count in counts:
                ResultStore(Path(folder)).all(CELLS[:count])
            code = 0
        finally:
            os._exit(code)
    return pid

def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

killed, shared, *pauses = sys.argv[1:]
for number, pause in enumerate(map(float, pauses)):
    pid = begin(killed, 3 + number % 2)
    time.sleep(pause)
    os.kill(pid, signal.SIGKILL)
    print(end(pid))
print(end(begin(killed, 3, 4)))
for pid in [begin(shared, 3, 4), begin(shared, 3, 4)]:
    print(end(pid))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two folders and how the processes ended: ten that were killed, one that was not; two on one folder.

    All are forks of one process: to load torch takes longer than what they do.
    """
    folders = [tmp_path_factory.mktemp(name) for name in ("killed", "shared")]
    pauses = (
        np.random.default_rng([int(os.environ.get("VITDYN_TEST_SEED", "0")), 1])
        .uniform(0.01, 0.35, size=10)
        .round(3)
    )
    command = [sys.executable, "-c", STORE, *map(str, folders), *map(str, pauses)]
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = list(map(int, done.stdout.split()))
    return folders, (codes[:-2], codes[-2:]), done.stderr


def check(folder):
    """All four results have the bits of runs by themselves, and the folder has nothing else."""
    store = ResultStore(folder, redraw=True)
    for each, found in zip(CELLS, store.all(CELLS), strict=True):
        assert found.dataset.drop_attrs().identical(run(each).dataset.drop_attrs())
    assert sorted(folder.iterdir()) == sorted(map(store.path, CELLS))


def test_killed_while_they_train_write_and_save(done):
    """Ten times, with three cells and with four in turns; then to the end."""
    (folder, _), (codes, _), said = done
    assert len(codes) == 11 and codes[-1] == 0 and set(codes) <= {0, -signal.SIGKILL}, said
    assert codes.count(-signal.SIGKILL) >= 3
    check(folder)


def test_two_processes_on_one_folder(done):
    """They write the same checkpoints and results, and clear nothing that the other still writes."""
    (_, folder), (_, codes), said = done
    assert codes == [0, 0], said
    ResultStore(folder)(CELLS[0])
    check(folder)
