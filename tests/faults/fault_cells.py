"""A sweep of 200 small cells, of which one diverges and one raises; workers import it from here, too."""

from dataclasses import replace

import vitdyn as vd

MASKS = tuple(round(0.3 + 0.04 * number, 2) for number in range(10))
RATES = tuple(round(0.2 * (1 + number), 1) for number in range(20))
LAYOUT = vd.PatchLayout.from_exponents(64, kappa_c=0.9, kappa_s=0.4, clusters=2)
BASE = vd.Training(
    generator=vd.PatchGenerator(layout=LAYOUT),
    objective=vd.MaskedReconstruction(),
    steps=20,
    seeds=2,
    schedule=vd.Schedule(frames=8),
)


def refuse(state):
    """Raise, as a mistake in an observable of the user's does."""
    raise KeyError("a mistake of the user's")


def make(mask, rate):
    """Return the experiment of a point."""
    training = replace(
        BASE,
        objective=vd.MaskedReconstruction(mask_ratio=mask),
        optimizer=vd.GradientDescent(learning_rate=rate),
    )
    if (mask, rate) == (MASKS[3], RATES[7]):
        wild = vd.GradientDescent(learning_rate=1e12)
        training = replace(BASE, objective=vd.Contrastive(weight_decay=1e6), optimizer=wild)
    if (mask, rate) == (MASKS[6], RATES[2]):
        wrong = vd.Observable(name="wrong", compute=refuse, meaning="none")
        training = replace(training, observables=(*vd.RECORD, wrong))
    return vd.Experiment(name="cell", training=training)


sweep = vd.Sweep.product("faults", make, {"mask": MASKS, "rate": RATES})
FAILED = 2
