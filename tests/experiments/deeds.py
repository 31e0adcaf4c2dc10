"""Small cells, and what a cell may do to the process that runs it: in a file of its own, for workers import it too."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Momentum, Schedule, Training
from vitdyn.experiments import Experiment, Sweep
from vitdyn.objectives import MaskedReconstruction
from vitdyn.observables import Observable

TRAINING = Training(
    generator=PatchGenerator(layout=PatchLayout.from_sizes([[6, 3, 2], [5, 6]], seed=2)),
    objective=MaskedReconstruction(),
    steps=10,
    batch_size=6,
    evaluation_samples=5,
    seeds=(3, 8),
    schedule=Schedule(frames=4),
)
RATES = (0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Deed:
    """What a cell does to the worker that runs it: once, as a file shows that is then there, or always."""

    kind: str
    once: str = ""

    def __call__(self, state):
        done = bool(self.once) and Path(self.once).exists()
        if self.once:
            Path(self.once).touch()
        if not done and self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if not done and self.kind == "memory":
            raise MemoryError("no room here")
        if not done and self.kind == "raise":
            raise RuntimeError("as it should")
        return state.loss


def make(rate, deed=None):
    training = replace(TRAINING, optimizer=Momentum(learning_rate=rate))
    if deed is not None:
        own = Observable(name="deed", compute=deed, meaning="the loss, and what happens where it is computed")
        training = replace(training, observables=(*training.observables, own))
    return Experiment(name="cell", training=training)


def swept(**deeds):
    """Four plain cells, or the four with each deed."""
    return Sweep.product("deeds", make, {"rate": RATES} | ({"deed": deeds} if deeds else {}))
