"""The training dynamics of self-supervised Vision Transformers, as running, checked simulation.

An experiment goes in and a trajectory comes out; a claim reads trajectories and returns a verdict.

    >>> import vitdyn as vd
    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> training = vd.Training(
    ...     generator=vd.PatchGenerator(layout=layout), objective=vd.MaskedReconstruction(), steps=20, seeds=2
    ... )
    >>> loss = vd.simulate(training)["loss"].mean("seed")
    >>> bool(loss[-1] < loss[0])
    True

Names are loaded when they are first asked for: ``import vitdyn`` itself loads neither torch nor numpy.
"""

from vitdyn._lazy import lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vitdyn import landscape, losses, metrics, objectives, observables, theory
    from vitdyn import plotting as plot
    from vitdyn._version import __version__
    from vitdyn.claims import CLAIMS, Case, Claim, Control, Measurement, over_seeds
    from vitdyn.claims.check import check
    from vitdyn.data import (
        AreaSizes,
        Beta,
        Constant,
        Custom,
        PatchGenerator,
        PatchLayout,
        TruncatedNormal,
        TwoPoint,
        Uniform,
        orthonormal_basis,
    )
    from vitdyn.dynamics import Adam, GradientDescent, Momentum, Runtime, Training
    from vitdyn.dynamics.simulate import simulate, simulate_grid
    from vitdyn.experiments import Experiment, ResultStore, Sweep, collect, register, run, run_sweep
    from vitdyn.models import Correlations, Model, OneLayer, Parameters, Transformer, area_attention
    from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture, Objective
    from vitdyn.observables import RECORD, Observable, Schedule, learned_regime, metric_observables
    from vitdyn.reduced import ExactReduction, MeanField, integrate
    from vitdyn.trajectory import Trajectory

__all__ = [
    "CLAIMS", "RECORD", "Adam", "AreaSizes", "Beta", "Case", "Claim", "Constant", "Contrastive",
    "Control", "Correlations", "Custom", "ExactReduction", "Experiment", "GradientDescent",
    "MaskedReconstruction", "MeanField", "Measurement", "Mixture", "Model", "Momentum", "Objective",
    "Observable", "OneLayer", "Parameters", "PatchGenerator", "PatchLayout", "ResultStore", "Runtime",
    "Schedule", "Sweep", "Training", "Trajectory", "Transformer", "TruncatedNormal", "TwoPoint",
    "Uniform", "area_attention", "check", "collect", "integrate", "landscape", "learned_regime", "losses",
    "metric_observables", "metrics", "objectives", "observables", "orthonormal_basis", "over_seeds",
    "plot", "register", "run", "run_sweep", "simulate", "simulate_grid", "theory",
]  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__)
