"""Measure the constants of ``vitdyn.experiments.cost`` on this machine; write them to its table, ``cost.json``.

``python tests/benchmarks/cost_table.py`` (``make bench`` calls it): CPU seconds of short runs on one core, fitted by
units of work with coefficients of at least 0 and errors relative to each run. What is held out is measured, too, but
not fitted: the table's word is tested on it.
"""

import json
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import nnls

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Adam, Schedule, Training, simulate
from vitdyn.dynamics.memory import default_limit, split_cells
from vitdyn.dynamics.resources import machine_name
from vitdyn.experiments.cost import TABLE, pulse, work
from vitdyn.models import Transformer
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture


class Quartic(MaskedReconstruction):
    """A loss without a closed form."""

    def loss(self, forward):
        """Return the fourth power of the residual."""
        masked = ~forward.views[0][:, :, None]
        residual = forward.batch.latents[..., None] * (forward.attention[0] - forward.batch.membership)
        return (residual**4 * masked).sum((1, 2, 3)) / forward.batch.count


MAE, CL, MIX = MaskedReconstruction(), Contrastive(), Mixture(weight=0.3)


def training(patches, objective, steps, *, frames=4, clusters=2, kappa_s=0.4, **changes):
    """One run, of two seeds where nothing else is said."""
    layout = PatchLayout.from_exponents(patches, 0.9, kappa_s, clusters=clusters)
    base = Training(
        generator=PatchGenerator(layout=layout), objective=objective, steps=steps, seeds=2,
        schedule=Schedule(frames=frames),
    )  # fmt: skip
    return replace(base, **changes)


FITTED = {
    "short": training(64, MAE, 2),
    "small": training(64, MAE, 800, seeds=1),
    "mae 64": training(64, MAE, 300, seeds=8, batch_size=64),
    "mae 128": training(128, MAE, 300),
    "mae 256": training(256, MAE, 100, batch_size=64),
    "mae 256 float64": training(256, MAE, 60, precision="float64"),
    "mae 1024": training(1024, MAE, 6),
    "mae 512, 512 samples": training(512, MAE, 4, batch_size=512),
    "cl 1024, 256 samples": training(1024, CL, 2, batch_size=256, seeds=1),
    "many areas": training(256, MAE, 100, kappa_s=0.1),
    "adam 256": training(256, MAE, 100, batch_size=2, optimizer=Adam(learning_rate=0.01)),
    "cl 64": training(64, CL, 200, batch_size=64),
    "cl 256": training(256, CL, 60),
    "mixture 128": training(128, MIX, 100),
    "own 64": training(64, Quartic(), 100),
    "own 256": training(256, Quartic(), 20),
    "content 16": training(16, MAE, 200),
    "content 64": training(64, CL, 20),
    "frames 64": training(64, MAE, 60, frames=61),
    "frames 256": training(256, MAE, 30, frames=31),
    "frames 512": training(512, CL, 8, frames=9),
    "evaluation 128": training(128, MAE, 30, frames=31, evaluation_samples=256),
}
for _name in ("content 16", "content 64"):
    FITTED[_name] = replace(FITTED[_name], content_queries=True)


def model(patches, objective, steps, fields, **changes):
    """One run of a Transformer of such fields, at a rate that moves and does not break it."""
    given = {
        "model": Transformer(initial_scale=0.1, **fields),
        "optimizer": Adam(learning_rate=1e-3),
        "batch_size": 16,
    }
    return training(patches, objective, steps, **given | changes)


VIT = {"layers": 2, "heads": 2, "values": "projections", "residual": True, "mlp": 32, "norm": True,
       "content_queries": True, "key_dimension": 16, "positions": "stream"}  # fmt: skip
FITTED |= {
    "model 16": model(16, MAE, 200, {}, seeds=1),
    "model 64": model(64, MAE, 40, {}, seeds=8),
    "model 128": model(128, CL, 10, {}),
    "heads 64": model(64, MAE, 20, {"heads": 4}),
    "depth 64": model(64, CL, 15, {"layers": 4, "residual": True}),
    "depth and heads 128": model(
        128, MAE, 8, {"layers": 2, "heads": 4, "residual": True, "values": "matrix"}
    ),
    "vit 64": model(64, MAE, 20, VIT),
    "frames of a model 64": model(64, MAE, 20, {"layers": 2, "heads": 2}, frames=21),
}

HELD_OUT = {
    "mae": training(100, MAE, 200, frames=20),
    "cl": training(144, CL, 80, frames=12, batch_size=48),
    "mixture": training(64, MIX, 150, frames=10),
    "content": training(36, CL, 60, frames=6, content_queries=True),
    "float64": training(144, CL, 60, frames=8, precision="float64"),
    "large P": training(784, MAE, 10, frames=6),
    "many seeds": training(64, MAE, 100, seeds=64),
    "adam": training(196, MIX, 40, frames=10, optimizer=Adam(learning_rate=0.01), clusters=4),
    "heads": model(100, CL, 15, {"heads": 3, "values": "scalar"}, frames=6),
    "depth": model(
        64, MAE, 25, {"layers": 3, "heads": 2, "residual": True, "mlp": 16, "norm": True}, seeds=8, frames=6
    ),
    "model": model(196, MAE, 6, {"content_queries": True}, precision="float64"),
}


def units(run):
    """The units of work of a run."""
    cpu = torch.device("cpu")
    return sum((work(group) for group in split_cells((run,), cpu, default_limit(cpu))), Counter())


def cpu_seconds(run):
    """The CPU time of a run, of all its threads, the best of three."""
    times = []
    for _ in range(3):
        began = time.process_time()
        simulate(run)
        times.append(time.process_time() - began)
    return min(times)


def main():
    """Measure, fit, write."""
    torch.set_num_threads(1)
    for run in (*FITTED.values(), *HELD_OUT.values()):
        simulate(replace(run, steps=1, schedule=Schedule()))  # compiles what it takes
    measured = {name: cpu_seconds(run) for name, run in (FITTED | HELD_OUT).items()}
    fitted = [units(run) for run in FITTED.values()]
    names = sorted(set().union(*fitted))
    matrix = np.array([[each[name] for name in names] for each in fitted], dtype=float)
    matrix /= np.array([measured[name] for name in FITTED])[:, None]
    scale = matrix.max(0)
    found, _ = nnls(matrix / scale, np.ones(len(matrix)))
    table = {
        "machine": machine_name(),
        "made by": "python tests/benchmarks/cost_table.py",
        "pulse": pulse(),
        "seconds": dict(zip(names, (found / scale).tolist(), strict=True)),
        "measured": measured,
    }
    TABLE.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    for name, run in (FITTED | HELD_OUT).items():
        told = sum(table["seconds"][unit] * count for unit, count in units(run).items())
        print(f"{name:20} {measured[name]:8.3f} s, told {told:8.3f} s, ratio {told / measured[name]:.2f}")


if __name__ == "__main__":
    main()
