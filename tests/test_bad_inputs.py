"""Nonsense at public doors (exact): each call gives one line that names field, value and remedy, or a result.

Every parameter of every door takes each piece of nonsense in turn. A new door is one line below.
"""

import inspect
import re

import numpy as np
import pytest
import torch

from vitdyn import theory
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
    draw_view_pair,
    draw_visible,
    masked_count,
    orthonormal_basis,
)
from vitdyn.dynamics import (
    Adam,
    GradientDescent,
    Momentum,
    Schedule,
    Training,
    estimate_memory,
    pick_device,
    simulate,
    simulate_grid,
)
from vitdyn.experiments import Experiment, ResultStore, run, run_all
from vitdyn.lumped import MeanField
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.observables import Metrics
from vitdyn.seeds import Streams, stream
from vitdyn.trajectory import Trajectory

LAYOUT = PatchLayout.from_sizes([5, 2, 2])
GENERATOR = PatchGenerator(layout=LAYOUT)
TRAINING = Training(generator=GENERATOR, objective=MaskedReconstruction(), steps=1, samples=2, seeds=1)

SIZES = AreaSizes(patches=16.0, global_size=4.0, local_size=4.0)
FLOW = Experiment(name="flow", training=MeanField(sizes=SIZES, nodes=4, frames=4))
STORE = ResultStore("results")
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
    "PatchGenerator": (PatchGenerator, {"layout": LAYOUT, "latents": Uniform()}),
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
    "Metrics": (
        Metrics,
        {"names": ("lidar",), "mask_ratio": 0.5, "maps": 4, "objects": 8, "views": 2, "within_cluster": True},
    ),
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
            "device": "cpu",
            "progress": False,
        },
    ),
    "simulate": (
        simulate,
        {
            "training": TRAINING,
            "device": "cpu",
            "memory_limit_mib": None,
            "start": None,
            "keep_final_state": True,
            "checkpoint": None,
            "checkpoint_seconds": 10.0,
            "progress": False,
        },
    ),
    "simulate_grid": (simulate_grid, {"trainings": [TRAINING], "device": "cpu"}),
    "estimate_memory": (estimate_memory, {"training": TRAINING, "device": "cpu"}),
    "pick_device": (pick_device, {"name": "auto"}),
    "Trajectory.load": (Trajectory.load, {"path": "nowhere.nc"}),
    "ResultStore": (
        ResultStore,
        {"folder": ".", "progress": False, "redraw": True, "keep_final_state": True, "anew": False},
    ),
    "ResultStore()": (STORE, {"experiment": FLOW}),
    "ResultStore.path": (STORE.path, {"experiment": FLOW}),
    "ResultStore.all": (STORE.all, {"experiments": []}),
    "ResultStore.named": (STORE.named, {"experiments": {}}),
    "run_all": (run_all, {"runner": STORE, "experiments": []}),
}
REGIME, LAW = theory.Regime(patches=1e4, kappa_c=0.9, kappa_s=0.3), Uniform()
WORDS = {"symbol": "T", "statement": "", "source": "", "note": ""}
CONTRAST = {"law": LAW, "temperature": 1.0, "negatives": 8, "clusters": 2}
DOORS |= {
    "Regime": (theory.Regime, {"patches": 1e4, "kappa_c": 0.9, "kappa_s": 0.3}),
    "Regime.of": (theory.Regime.of, {"layout": LAYOUT}),
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
                    "law": LAW,
                    "layout": SQUARE,
                    "mask_ratio": 0.5,
                    "local_size": 4.0,
                }.get(name, CONTRAST.get(name))
                for name in inspect.signature(each).parameters
            },
        )
        for each in map(vars(theory).get, theory.__all__)
        if not inspect.isclass(each)
    },
}
CALLS = [(door, parameter) for door, (_, given) in DOORS.items() for parameter in given]


def is_named(message):
    return re.fullmatch(r"[^\n]+", message) and re.search(r" = .*: |: ", message)


@pytest.mark.parametrize(("door", "parameter"), CALLS, ids=lambda part: part)
def test_nonsense_gives_one_line_or_a_result(door, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, given = DOORS[door]
    failed = []
    for name, value in NONSENSE.items():
        if isinstance(value, str) and value == "generator":
            value = (number for number in (1, 2))
        try:
            call(**{**given, parameter: value})
        except ValueError as error:
            if not is_named(str(error)):
                failed.append(f"{name}: {str(error)[:120]}")
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__} {str(error)[:120]}")
    assert not failed


def test_every_door_opens(tmp_path, monkeypatch):
    """With what it is given when no nonsense is: else nothing is tested."""
    monkeypatch.chdir(tmp_path)
    for door, (call, given) in DOORS.items():
        if door != "Trajectory.load":
            call(**given)
