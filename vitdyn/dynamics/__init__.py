"""The full simulation: descent on every correlation of every seed, and what is recorded on the way."""

from vitdyn.dynamics.batches import BatchSource
from vitdyn.dynamics.checkpoint import CheckpointError
from vitdyn.dynamics.descent import DESCENTS, Adam, Descent, GradientDescent, Momentum
from vitdyn.dynamics.divergence import DivergenceError
from vitdyn.dynamics.gradient import loss_gradient
from vitdyn.dynamics.memory import estimate_memory
from vitdyn.dynamics.resources import pick_device
from vitdyn.dynamics.runtime import Runtime
from vitdyn.dynamics.simulate import simulate, simulate_grid
from vitdyn.dynamics.training import Training
from vitdyn.observables.schedule import Schedule

__all__ = [
    "DESCENTS",
    "Adam",
    "BatchSource",
    "CheckpointError",
    "Descent",
    "DivergenceError",
    "GradientDescent",
    "Momentum",
    "Runtime",
    "Schedule",
    "Training",
    "estimate_memory",
    "loss_gradient",
    "pick_device",
    "simulate",
    "simulate_grid",
]
