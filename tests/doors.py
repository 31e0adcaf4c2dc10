"""Public doors and what they are given, where each opens; and what is given to none."""

import inspect
from dataclasses import replace

import numpy as np
import torch

from vitdyn import claims, reduced, theory
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
    shared_features,
)
from vitdyn.data.masking import draw_view_pair, draw_visible, masked_count
from vitdyn.dynamics import (
    Adam,
    GradientDescent,
    Momentum,
    Runtime,
    Schedule,
    Training,
    simulate,
    simulate_grid,
)
from vitdyn.dynamics.memory import estimate_memory
from vitdyn.dynamics.resources import pick_device
from vitdyn.experiments import Experiment, ResultStore, Sweep, register, run, run_all, run_sweep
from vitdyn.experiments.sweep_run import plan_sweep
from vitdyn.models import Correlations, OneLayer
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.observables import (
    MetricImages,
    Observable,
    attention_moved,
    image_representation,
    learned_regime,
    least_area_attention,
    least_global_attention,
    least_own_area_attention,
    local_own_area_attention,
    metric_observables,
    patch_representation,
    regime_sensitivity,
)
from vitdyn.observables.learned import THRESHOLDS
from vitdyn.observables.standard import sample_mean
from vitdyn.reduced import MeanField
from vitdyn.reduced.exact_reduction import sampled_gradient
from vitdyn.seeds import Streams, stream
from vitdyn.trajectory import Trajectory

LAYOUT = PatchLayout.from_sizes([5, 2, 2])
GENERATOR = PatchGenerator(layout=LAYOUT)
TRAINING = Training(generator=GENERATOR, objective=MaskedReconstruction(), steps=1, batch_size=2, seeds=1)
OBSERVABLE = Observable(name="own", compute=len, axes=("seed", "top"), coordinates={"top": (1, 2)})
RUNTIME = Runtime(device="cpu")

SIZES = AreaSizes(patches=16.0, global_size=4.0, local_size=4.0)
FLOW = Experiment(name="flow", training=MeanField(sizes=SIZES, nodes=4, frames=4))
STORE = ResultStore("results")


def run_flow(experiment):
    """What a runner of the user's own is."""
    return PATH


def flow_of(nodes):
    """A cell of a sweep."""
    return Experiment(name="flow", training=MeanField(sizes=SIZES, nodes=nodes, frames=4))


SWEEP = Sweep.product("flows", flow_of, {"nodes": (4,)})

SQUARE = PatchLayout.from_sizes([8, 4, 4], grid=(4, 4))

NONSENSE = {
    "none": None,
    "text": "x",
    "empty text": "",
    "bytes": b"1",
    "not a number": float("nan"),
    "infinity": float("inf"),
    "minus one": -1,
    "a half": 0.5,
    "two": 2,
    "a truth value": True,
    "an empty list": [],
    "a list of text": ["a", "b"],
    "a nested list": [[1], [2, 3]],
    "a list of none": [None],
    "a mapping": {"a": 1},
    "a set": {1},
    "an object": object(),
    "a class": dict,
    "a function": len,
    "a generator": "generator",
    "an array of no axis": np.array(1.5),
    "an array of text": np.array(["a", "b"]),
    "an array of NaN": np.full((2, 2), np.nan),
    "an empty array": np.empty((0, 3)),
    "a tensor": torch.ones(2, 3),
    "a meta tensor": torch.ones(2, device="meta"),
    "a sparse tensor": torch.eye(2).to_sparse(),
    "a complex number": 1j,
    "a device": torch.device("cpu"),
    "a dtype": torch.int64,
    "a layout": LAYOUT,
    "a training": TRAINING,
}

DOORS = {
    "PatchLayout": (PatchLayout, {"partition": ((0, 1, 1), (1, 0, 0)), "grid": None, "exponents": None}),
    "from_exponents": (
        PatchLayout.from_exponents,
        {
            "patches": 64,
            "kappa_c": 0.9,
            "kappa_s": 0.4,
            "clusters": 2,
            "arrangement": "scattered",
            "grid": None,
            "global_fraction": 0.5,
            "seed": 0,
        },
    ),
    "from_sizes": (
        PatchLayout.from_sizes,
        {
            "sizes": [4, 2],
            "patches": None,
            "clusters": 1,
            "arrangement": "contiguous",
            "grid": None,
            "seed": 0,
        },
    ),
    "from_labels": (PatchLayout.from_labels, {"labels": np.arange(16).reshape(4, 4), "patch_size": 2}),
    "AreaSizes": (AreaSizes, {"patches": 1e4, "global_size": 1e3, "local_size": 10.0, "exponents": None}),
    "AreaSizes.from_exponents": (
        AreaSizes.from_exponents,
        {"patches": 1e8, "kappa_c": 0.9, "kappa_s": 0.3, "global_fraction": 0.5, "outside": False},
    ),
    "Uniform": (Uniform, {"low": 1.0, "high": 1.5}),
    "TwoPoint": (TwoPoint, {"low": 1.0, "high": 1.5, "probability_high": 0.5}),
    "TruncatedNormal": (TruncatedNormal, {"low": 1.0, "high": 1.5, "location": 1.2, "scale": 0.1}),
    "Beta": (Beta, {"low": 1.0, "high": 1.5, "alpha": 2.0, "beta": 2.0}),
    "Constant": (Constant, {"value": 1.0}),
    "Custom": (Custom, {"draw": lambda generator, shape: np.ones(shape), "low": 1.0, "high": 1.0}),
    "PatchGenerator": (
        PatchGenerator,
        {
            "layout": LAYOUT,
            "latents": Uniform(),
            "cluster_probabilities": (1.0,),
            "latent_correlation": 0.1,
            "negative": 0.1,
            "noise": 0.1,
            "coherence": 0.1,
            "variants": 2,
            "feature_table": ((0, 1, 2),),
            "largest_shift": 1,
        },
    ),
    "sample": (
        GENERATOR.sample,
        {
            "count": 2,
            "seeds": (0,),
            "step": 0,
            "purpose": "",
            "by_cluster": False,
            "dtype": torch.float64,
            "device": "cpu",
        },
    ),
    "images": (GENERATOR.sample(2, (0,)).images, {"patch_size": 2, "channels": 3, "seed": 0}),
    "shared_features": (shared_features, {"layout": LAYOUT, "areas": [0]}),
    "orthonormal_basis": (
        orthonormal_basis,
        {"layout": LAYOUT, "dimension": None, "seed": None, "dtype": torch.float64},
    ),
    "masked_count": (masked_count, {"patches": 8, "ratio": 0.5}),
    "draw_visible": (
        draw_visible,
        {"generator": np.random.default_rng(0), "samples": 2, "patches": 8, "masked": 3},
    ),
    "draw_view_pair": (
        draw_view_pair,
        {
            "generator": np.random.default_rng(0),
            "samples": 2,
            "patches": 8,
            "masked": 3,
            "kind": "independent",
        },
    ),
    "stream": (stream, {"seed": 0, "purpose": "user", "step": 0}),
    "Streams": (Streams, {"seeds": (0,), "purpose": "user", "step": 0}),
    "MaskedReconstruction": (MaskedReconstruction, {"mask_ratio": 0.5}),
    "Contrastive": (
        Contrastive,
        {"mask_ratio": 0.5, "temperature": 1.0, "weight_decay": 0.0, "views": "independent"},
    ),
    "Mixture": (Mixture, {"weight": 0.5, "mask_ratio": 0.5, "temperature": 1.0, "views": "independent"}),
    "GradientDescent": (GradientDescent, {"learning_rate": 1.0}),
    "Momentum": (Momentum, {"learning_rate": 1.0, "momentum": 0.9}),
    "Adam": (Adam, {"learning_rate": 1.0, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}),
    "Schedule": (Schedule, {"spacing": "explicit", "frames": 4, "steps": (1,)}),
    "MetricImages": (
        MetricImages,
        {"mask_ratio": 0.5, "maps": 4, "objects": 8, "views": 2, "within_cluster": True},
    ),
    "metric_observables": (metric_observables, {"names": ("lidar",), "images": MetricImages()}),
    "Observable": (
        Observable,
        {name: getattr(OBSERVABLE, name) for name in inspect.signature(Observable).parameters},
    ),
    "register": (register, {"kind": OBSERVABLE}),
    "Training": (
        Training,
        {name: getattr(TRAINING, name) for name in inspect.signature(Training).parameters},
    ),
    "Experiment": (Experiment, {"name": "a", "training": TRAINING}),
    "from_json": (Experiment.from_json, {"text": Experiment(name="a", training=TRAINING).to_json()}),
    "run": (
        run,
        {
            "experiment": Experiment(name="a", training=TRAINING),
            "out": None,
            "runtime": RUNTIME,
        },
    ),
    "Runtime": (
        Runtime,
        {
            "device": "cpu",
            "memory_limit_mib": None,
            "checkpoint_seconds": 10.0,
            "keep_checkpoint": False,
            "keep_final_state": True,
            "anew": False,
            "progress": False,
        },
    ),
    "simulate": (
        simulate,
        {
            "training": TRAINING,
            "start": None,
            "checkpoint": None,
            "runtime": RUNTIME,
        },
    ),
    "simulate_grid": (simulate_grid, {"trainings": [TRAINING], "runtime": RUNTIME}),
    "estimate_memory": (estimate_memory, {"training": TRAINING, "device": "cpu"}),
    "pick_device": (pick_device, {"name": "auto"}),
    "Trajectory.load": (Trajectory.load, {"path": "nowhere.nc"}),
    "ResultStore": (
        ResultStore,
        {"folder": ".", "redraw": True, "runtime": RUNTIME},
    ),
    "ResultStore()": (STORE, {"experiment": FLOW}),
    "ResultStore.path": (STORE.path, {"experiment": FLOW}),
    "ResultStore.all": (STORE.all, {"experiments": []}),
    "ResultStore.named": (STORE.named, {"experiments": {}}),
    "Sweep.product": (Sweep.product, {"name": "flows", "make": flow_of, "axes": {"nodes": (4, 5)}}),
    "Sweep.listed": (Sweep.listed, {"name": "flows", "make": flow_of, "points": [{"nodes": 4}]}),
    "Sweep.over": (Sweep.over, {"base": FLOW, "axes": {"nodes": (4, 5)}}),
    "Sweep[]": (SWEEP.__getitem__, {"index": 0}),
    "plan_sweep": (plan_sweep, {"sweep": SWEEP, "out": "sweep", "runtime": RUNTIME, "again": False}),
    "run_sweep": (run_sweep, {"sweep": SWEEP, "out": "sweep", "runtime": RUNTIME, "again": False}),
    "run_all": (run_all, {"runner": STORE, "experiments": []}),
}
REGIME, LAW = theory.Regime(patches=1e4, kappa_c=0.9, kappa_s=0.3), Uniform()
WORDS = {"symbol": "T", "statement": "", "source": "", "note": ""}
OF_MODELS = {
    "share": 0.25,
    "heads": 2,
    "layers": 2,
    "own_size": 4.0,
    "other_size": 16.0,
    "patches": 64.0,
    "noise": 0.1,
    "logit": 1.0,
    "similarity": 1.0,
    "hessian": theory.reconstruction_hessian(SIZES, LAW),
}
CONTRAST = {"distribution": LAW, "temperature": 1.0, "negatives": 8, "clusters": 2}
OF_FAMILIES = {
    "sizes": SIZES,
    "classes": 8,
    "steps": 400,
    "weight": 1.0,
    "start": 0.3,
    "attention": 0.3,
    "loss": "class",
    "latent": 1.0,
    "time": 4.0,
    "correlations": theory.RowCorrelations(),
}
OF_TEACHERS = {
    "momenta": [0.5, 0.9],
    "residuals": [[1.0], [2.0]],
    "inputs": [[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]],
    "weights": [0.9, 0.9],
    "now": [1.0, 2.0, 3.0],
    "learning_rate": 0.1,
    "step": 0.1,
    "momentum": 0.9,
}
DOORS |= {
    "Regime": (theory.Regime, {"patches": 1e4, "kappa_c": 0.9, "kappa_s": 0.3}),
    "Regime.of": (theory.Regime.of, {"layout": LAYOUT}),
    "RowCorrelations": (theory.RowCorrelations, vars(theory.RowCorrelations(own=1.0))),
    "Prediction": (theory.Prediction, {"low": 0.0, "high": 1.0, **WORDS}),
    "Rate": (theory.Rate, {"exponent": 1.0, "variable": "P", **WORDS}),
    "Phase": (
        theory.Phase,
        {
            "name": "a",
            "level": theory.own_area_level(REGIME, LAW),
            "duration": theory.local_area_time(REGIME),
        },
    ),
    **{
        each.__name__: (
            each,
            {
                name: {
                    "regime": REGIME,
                    "distribution": LAW,
                    "layout": SQUARE,
                    "mask_ratio": 0.5,
                    "local_size": 4.0,
                    **CONTRAST,
                    **OF_FAMILIES,
                    **OF_TEACHERS,
                    **OF_MODELS,
                }.get(name, parameter.default)
                for name, parameter in inspect.signature(each).parameters.items()
            },
        )
        for each in map(vars(theory).get, theory.__all__)
        if not inspect.isclass(each)
    },
}
FIELD = FLOW.training
PATH = reduced.integrate(replace(FIELD, until=0.5))
TIMES = PATH["time"].to_numpy()
REDUCED = reduced.ExactReduction(
    layout=LAYOUT,
    objective=MaskedReconstruction(),
    steps=1,
    batch_size=2,
    seeds=1,
    frames=2,
    learning_rate=1.0,
)
CLASSES = reduced.Symmetry.of(LAYOUT)
ORDER = CLASSES.zeros(1)
DOORS |= {
    "MeanField": (
        MeanField,
        {name: getattr(FIELD, name) for name in inspect.signature(MeanField).parameters},
    ),
    "integrate": (reduced.integrate, {"spec": FIELD, "progress": False}),
    "integrate_batch": (
        reduced.integrate_batch,
        {"specs": [FIELD], "levels": (0.5,), "max_active": 1},
    ),
    "integrate_flows": (reduced.integrate_flows, {"specs": [FIELD]}),
    "integrate_descents": (
        reduced.integrate_descents,
        {"specs": [replace(FIELD, learning_rate=1.0, steps=1)]},
    ),
    "crossing_time": (reduced.crossing_time, {"trajectory": PATH, "values": TIMES, "level": 0.5}),
    "when_reached": (reduced.when_reached, {"values": TIMES, "other": TIMES, "level": 0.5}),
    "local_correlations": (reduced.local_correlations, {"trajectory": PATH}),
    "phase_one_end": (reduced.phase_one_end, {"trajectory": PATH}),
    "quadrature": (reduced.quadrature.quadrature, {"distribution": LAW, "count": 4}),
    "Symmetry.of": (reduced.Symmetry.of, {"layout": LAYOUT}),
    "Symmetry.zeros": (CLASSES.zeros, {"seeds": 1}),
    "OrderParameters": (reduced.OrderParameters, {"feature": ORDER.feature, "position": ORDER.position}),
    "ExactReduction": (
        reduced.ExactReduction,
        {name: getattr(REDUCED, name) for name in inspect.signature(reduced.ExactReduction).parameters},
    ),
    "sampled_gradient": (
        sampled_gradient,
        {
            "symmetry": CLASSES,
            "order": ORDER,
            "generator": GENERATOR,
            "objective": MaskedReconstruction(),
            "batch_size": 2,
            "seeds": (0,),
            "step": 0,
            "queries": "all",
        },
    ),
    "descend": (reduced.descend, {"spec": REDUCED, "progress": False}),
}

BATCH = GENERATOR.sample(2, (0,))
ZEROS = Correlations.zeros(LAYOUT, 1)
SHOWN = {"batch": BATCH, "visible": torch.ones(1, 2, 9, dtype=torch.bool)}
OF_LAYER = {"parameters": ZEROS, **SHOWN, "model": OneLayer()}
DOORS |= {
    "learned_regime": (learned_regime, {"trajectory": PATH, **THRESHOLDS}),
    "regime_sensitivity": (regime_sensitivity, {"trajectories": (PATH,), "factors": (0.5, 2.0)}),
    "attention_moved": (attention_moved, {"trajectory": PATH}),
    "least_own_area_attention": (least_own_area_attention, {"trajectory": PATH}),
    "least_area_attention": (least_area_attention, {"trajectory": PATH, "area": 0}),
    "least_global_attention": (least_global_attention, {"trajectory": PATH}),
    "local_own_area_attention": (local_own_area_attention, {"trajectory": PATH}),
    "patch_representation": (patch_representation, OF_LAYER),
    "image_representation": (image_representation, OF_LAYER),
    "sample_mean": (sample_mean, {"values": torch.ones(1, 2, 3), "counted": torch.ones(1, 2, 3) > 0}),
}

CASE = claims.Case.of(FLOW)
CLAIM = claims.Claim(
    id="MADE-UP",
    statement="",
    source="",
    note="",
    assumptions=(),
    surrogate="",
    symbol="x",
    predicted=lambda case: (1.0, 2.0),
    measure=lambda case, trajectories: claims.Measurement(1.5, 1.4, 1.6, 2, "runs"),
    cases=lambda scale: (CASE,),
    controls=lambda scale: (),
    latest=None,
)
VERDICT = claims.judge(CLAIM, CASE, (PATH,))
DOORS |= {
    "Case": (claims.Case, {"name": "a", "runs": (FLOW,)}),
    "Case.of": (claims.Case.of, {"experiment": FLOW}),
    "Control": (claims.Control, {"name": "a", "runs": (FLOW,), "predicted": None, "removes": None}),
    "Assumption": (claims.Assumption, {"sentence": "a", "holds": bool}),
    "Claim": (
        claims.Claim,
        {name: getattr(CLAIM, name) for name in inspect.signature(claims.Claim).parameters},
    ),
    "Verdict": (
        claims.Verdict,
        {name: getattr(VERDICT, name) for name in inspect.signature(claims.Verdict).parameters},
    ),
    "judge": (
        claims.judge,
        {"claim": CLAIM, "case": CASE, "trajectories": (PATH,), "expected": claims.SUPPORTED},
    ),
    "check": (claims.check, {"claims": (), "runner": run_flow, "scale": "quick", "seed": 0}),
    "passes": (claims.passes, {"verdicts": (VERDICT,)}),
    "contradicted": (claims.contradicted, {"verdicts": (VERDICT,)}),
    "counts": (claims.counts, {"verdicts": (VERDICT,)}),
    "overall": (claims.overall, {"verdicts": (VERDICT,)}),
    "over_seeds": (claims.over_seeds, {"values": [0.5, 0.6], "confidence": 0.99}),
    "moved": (
        claims.moved,
        {"cases": (CASE,), "predicted": lambda case: (1.0, 2.0), "by": 0.5, "words": "moved"},
    ),
}
