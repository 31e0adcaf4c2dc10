"""An Experiment goes in, a Trajectory comes out; a Sweep goes in, a dataset over its axes comes out."""

from vitdyn._registry import register
from vitdyn.experiments.collect import collect
from vitdyn.experiments.experiment import Experiment, Runner, run, run_all
from vitdyn.experiments.run_sweep import run_sweep
from vitdyn.experiments.store import ResultStore
from vitdyn.experiments.sweep import Sweep

__all__ = [
    "Experiment",
    "ResultStore",
    "Runner",
    "Sweep",
    "collect",
    "register",
    "run",
    "run_all",
    "run_sweep",
]
