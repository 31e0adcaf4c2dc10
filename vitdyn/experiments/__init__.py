"""An Experiment goes in, a Trajectory comes out."""

from vitdyn.experiments.experiment import Experiment, Runner, run, run_all
from vitdyn.experiments.store import ResultStore

__all__ = ["Experiment", "ResultStore", "Runner", "run", "run_all"]
