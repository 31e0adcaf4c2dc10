"""An Experiment goes in, a Trajectory comes out; a Sweep goes in, a dataset over its axes comes out."""

from vitdyn._registry import register
from vitdyn.experiments.experiment import Experiment, Runner, run, run_all
from vitdyn.experiments.store import ResultStore
from vitdyn.experiments.sweep import Sweep
from vitdyn.experiments.sweep_results import collect
from vitdyn.experiments.sweep_run import run_sweep

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
