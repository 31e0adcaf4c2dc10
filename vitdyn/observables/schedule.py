"""When a run is recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitdyn._errors import invalid_value, require_choice, require_integer, require_sequence
from vitdyn._memory import LAST_STEP, MOST_FRAMES

SPACINGS = ("linear", "logarithmic", "explicit")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Recorded steps: about ``frames`` of them, evenly spaced in the step or in its logarithm, or named.

    The start (step 0) and the last state are always recorded, also by "explicit", which takes ``steps``.

    >>> vd.Schedule(frames=5, spacing="linear").recorded_steps(100)
    (0, 25, 50, 75, 100)
    """

    spacing: str = "logarithmic"
    frames: int = 48
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_choice("Schedule.spacing", self.spacing, SPACINGS)
        require_integer("Schedule.frames", self.frames, at_least=2, at_most=MOST_FRAMES)
        require_sequence("Schedule.steps", self.steps, "whole numbers")
        for step in self.steps:
            require_integer("Schedule.steps", step, at_least=0)
        object.__setattr__(self, "steps", tuple(map(int, self.steps)))
        if self.steps and self.spacing != "explicit":
            raise invalid_value("Schedule.steps", self.steps, "steps are named only with spacing='explicit'")

    def recorded_steps(self, last: int) -> tuple[int, ...]:
        """Return the steps to record in a run of ``last`` steps, in order, each once."""
        require_integer("steps", last, at_least=0, at_most=LAST_STEP)
        if self.spacing == "explicit":
            beyond = [step for step in self.steps if step > last]
            if beyond:
                raise invalid_value("Schedule.steps", beyond[0], f"the run has {last} steps")
            inner = list(self.steps)
        elif self.spacing == "linear":
            inner = np.linspace(0, last, self.frames).round().astype(int).tolist()
        else:
            inner = np.geomspace(1, max(last, 1), self.frames - 1).round().astype(int).tolist()
        # a set, since early steps of a logarithmic schedule round to the same number
        return tuple(sorted({0, last, *(step for step in inner if step <= last)}))
