"""The full simulation: descent on every correlation of every seed, and what is recorded on the way."""

from vitdyn.dynamics.checkpoint import CheckpointError
from vitdyn.dynamics.divergence import DivergenceError
from vitdyn.dynamics.gradient import loss_gradient
from vitdyn.dynamics.optimizers import OPTIMIZERS, Adam, GradientDescent, Momentum, Optimizer
from vitdyn.dynamics.runtime import Runtime
from vitdyn.dynamics.simulate import simulate, simulate_grid
from vitdyn.dynamics.training import Training
from vitdyn.observables.schedule import Schedule

__all__ = [
    "OPTIMIZERS",
    "Adam",
    "CheckpointError",
    "DivergenceError",
    "GradientDescent",
    "Momentum",
    "Optimizer",
    "Runtime",
    "Schedule",
    "Training",
    "loss_gradient",
    "simulate",
    "simulate_grid",
]
