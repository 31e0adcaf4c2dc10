"""An Experiment goes in, a Trajectory comes out."""

from vitdyn._registry import register
from vitdyn.experiments.experiment import Experiment, Runner, run, run_all
from vitdyn.experiments.store import ResultStore

__all__ = ["Experiment", "ResultStore", "Runner", "register", "run", "run_all"]
