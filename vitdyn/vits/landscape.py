"""A frozen description of a survey: the loss of a small Vision Transformer about its weights, along a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitdyn._errors import (
    invalid_value,
    require_choice,
    require_integer,
    require_kind,
    require_real,
    require_sequence,
)
from vitdyn.landscape.directions import CONVENTIONS
from vitdyn.observables.schedule import Schedule
from vitdyn.vits.methods import RCMAE, Reconstruction
from vitdyn.vits.pretraining import Pretraining

LOSSES = ("pretraining", "reconstruction", "probe")
OF_SURFACES = ("curvature", "section", "lines", "rays", "sharpness")
MEASURES = (*OF_SURFACES, "correction")
"""What can be measured at a frame besides the loss and its slope: of any loss, and of RC-MAE's teacher."""
PLANES = ("random", "principal")
NODES = 512
"""How many nodes a spectral density may have, over all its draws."""
_LEAST = {
    **{"images": 2, "direction_seed": 0, "directions": 1, "points": 5, "final_points": 0},
    **{"lanczos_steps": 1, "lanczos_draws": 1},
}


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The landscape of a loss along one training: what is measured about the weights at each step of ``schedule``.

    ``loss`` is that of the training's method ("pretraining"), RC-MAE's without its teacher's term ("reconstruction"),
    or that of a linear classifier of the encoder's features about the encoder's weights ("probe", fitted anew at each
    frame; see ``probe_surface``), on ``images`` training images, with masks and views that stay. A teacher is what it
    was at that step.

    ``measures`` names what is measured. "curvature": spectral density, outermost eigenvalues and trace of the Hessian,
    by Lanczos from ``lanczos_draws`` vectors of ``lanczos_steps`` products each. "section": the convex share of a plane
    of two random directions, from −``half_width`` to ``half_width``, by second differences of ``points`` values along
    each. "lines": the loss at ``points`` places, an odd number, along each of ``directions`` random directions. "rays":
    convex radius and first inflection along ``directions`` random directions and downhill, up to ``half_width``, looked
    for at ``points`` places. "sharpness": the largest rise within ``radius``. "correction", of RC-MAE alone: cosine
    with its teacher's lag and strength of what the second term takes back, on images more and less like those of
    training (``vitdyn.vits.correction``); NaN while the teacher is its student.

    Directions have the length of the weights' filters (``normalisation``); they are drawn by the training's seed and
    ``direction_seed``. Convexity is up to ``epsilon``. Where ``final_points`` is not 0, the loss at the end is drawn in
    the plane of the first two random directions and in that of the path's principal ones, with so many points along
    each, and the path is projected on both.

    >>> from vitdyn.vits.methods import Reconstruction
    >>> training = Pretraining(method=Reconstruction(), steps=200)
    >>> Landscape(training=training, schedule=vd.Schedule(frames=3, spacing="linear")).steps
    (0, 100, 200)
    """

    training: Pretraining
    schedule: Schedule = field(default_factory=lambda: Schedule(frames=5, spacing="linear"))
    loss: str = "pretraining"
    images: int = 32
    measures: tuple[str, ...] = OF_SURFACES
    normalisation: str = "goldstein"
    direction_seed: int = 0
    directions: int = 2
    half_width: float = 1.0
    points: int = 21
    epsilon: float = 0.01
    lanczos_steps: int = 40
    lanczos_draws: int = 2
    radius: float = 0.05
    final_points: int = 0

    def __post_init__(self) -> None:
        require_kind("training", self.training, Pretraining)
        require_kind("schedule", self.schedule, Schedule)
        require_choice("loss", self.loss, LOSSES)
        require_sequence("measures", self.measures, "names")
        for each in self.measures:
            require_choice("measures", each, MEASURES)
        # one order, so that equal surveys have one key
        object.__setattr__(self, "measures", tuple(each for each in MEASURES if each in self.measures))
        if "correction" in self.measures and not isinstance(self.training.method, RCMAE):
            words = "must be without 'correction': the method is not RC-MAE, whose teacher corrects"
            raise invalid_value("measures", self.measures, words)
        require_choice("normalisation", self.normalisation, CONVENTIONS)
        for name, low in _LEAST.items():
            require_integer(name, getattr(self, name), at_least=low)
        if self.lanczos_steps * self.lanczos_draws > NODES:
            words = f"must be at most {NODES // self.lanczos_draws}, for {NODES} nodes of all draws"
            raise invalid_value("lanczos_steps", self.lanczos_steps, words)
        require_real("epsilon", self.epsilon, low=0, high=1, open_high=True)
        for name in ("half_width", "radius"):
            require_real(name, getattr(self, name), low=0, high=1e3, open_low=True)
        if self.loss == "pretraining" and self.training.method is None:
            words = "must be 'probe': an untrained encoder has no loss of its own"
            raise invalid_value("loss", self.loss, words)
        if self.loss == "reconstruction" and not isinstance(self.training.method, Reconstruction):
            words = "must be 'pretraining' or 'probe': the method does not reconstruct"
            raise invalid_value("loss", self.loss, words)
        if "lines" in self.measures and self.points % 2 == 0:
            raise invalid_value(
                "points", self.points, "must be odd: the middle of a line is the point itself"
            )
        # steps beyond the end are refused here too, and not when the training is done
        if len(self.steps) < 3 and self.final_points:
            words = "must be 0 of fewer than three frames: their path has no plane"
            raise invalid_value("final_points", self.final_points, words)

    @property
    def steps(self) -> tuple[int, ...]:
        """After how many steps of the training the landscape is measured, 0 and the end included."""
        return self.schedule.recorded_steps(self.training.steps)

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes in which the loss at the end is drawn."""
        return PLANES if self.final_points else ()

    @classmethod
    def kinds(cls) -> tuple[type, ...]:
        """Return the classes that a specification is made of."""
        return (cls, Schedule, *Pretraining.kinds())
