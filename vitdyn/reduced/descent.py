"""The mean field by plain gradient descent with a finite step: one run, or many that take each step together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vitdyn._progress import progress as shown
from vitdyn.observables import Schedule
from vitdyn.reduced.mean_field import MeanField, StalledFlowError
from vitdyn.reduced.right_hand_side import RightHandSide


def descend_together(specs: Sequence[MeanField], show: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the steps and the states (frame, parameter) of the frames of each run, all runs in step."""
    first = specs[0]
    right = (
        first.right_hand_side
        if len(specs) == 1
        else RightHandSide.together([spec.right_hand_side for spec in specs])
    )
    rates = np.array([float(spec.learning_rate or 0.0) for spec in specs])
    aims = np.array([np.nan if spec.until is None else spec.until for spec in specs])
    recorded = set(Schedule(frames=first.frames).recorded_steps(first.steps))
    runs = (len(specs),) if len(specs) > 1 else ()  # the state of a single run has no axis over runs
    rate, state = rates.reshape(runs), np.zeros((len(first.parameters), *runs))
    kept, steps, frames = [], [], np.zeros(len(specs), dtype=int)
    # A run that has arrived is carried on with the others, but its frames are no longer counted.
    going = np.ones(len(specs), dtype=bool)
    with shown(show, first.steps, "step") as bar:
        for step in range(first.steps + 1):
            if step in recorded:
                kept.append(state.reshape(-1, len(specs)))
                steps.append(step)
                frames += going
                going &= ~(right.target_attention(right.rows(state)) >= aims)
            if not going.any():
                break
            state = state + rate * right(state)
            bar.update(1)
            lost = going & ~np.isfinite(state).all(0)
            if lost.any():
                index = int(lost.argmax())
                words = f"learning_rate = {rates[index]:g} diverged at step {step}: take a smaller one"
                raise StalledFlowError(words, specs[index], step * rates[index])
    states, numbers = np.array(kept), np.array(steps)
    return [(numbers[:count], states[:count, :, index]) for index, count in enumerate(frames)]
