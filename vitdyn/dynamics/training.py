"""The specification of a run: what is trained, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral

from vitdyn._errors import require_boolean, require_choice, require_integer, wrong
from vitdyn.data import PatchGenerator
from vitdyn.dynamics.descent import DESCENTS, Descent, GradientDescent
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.objectives import OBJECTIVES, Objective
from vitdyn.observables import RECORD, Observable, as_observables, check_observables
from vitdyn.observables.schedule import Schedule
from vitdyn.seeds import counted_seeds


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and how: everything that decides a run's numbers but its device.

    ``seeds`` is a count (seeds 0, 1, ...) or the seeds themselves. Each step draws ``samples`` samples per
    seed: fresh ones, or from a fixed data set of ``data_set_size``. ``descent`` None means gradient descent
    at the objective's own learning rate. Frames are measured on ``evaluation_samples`` samples that
    training does not see; ``observables`` are what they hold, given as ``Observable`` or by name.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> generator = vd.PatchGenerator(layout=layout)
    >>> vd.Training(generator=generator, objective=vd.Contrastive(), seeds=range(3)).seed_numbers
    (0, 1, 2)
    """

    generator: PatchGenerator
    objective: Objective
    descent: Descent | None = None
    steps: int = 400
    samples: int = 32
    seeds: int | tuple[int, ...] = 8
    schedule: Schedule = field(default_factory=Schedule)
    data_set_size: int | None = None
    evaluation_samples: int = 32
    observables: tuple[Observable | str, ...] = RECORD
    content_queries: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.generator, PatchGenerator):
            raise wrong("generator", self.generator, "must be a PatchGenerator")
        if not isinstance(self.objective, Objective):
            known = ", ".join(kind.__name__ for kind in OBJECTIVES.values())
            raise wrong("objective", self.objective, f"must be an Objective: one of {known}, or your own")
        if self.descent is not None and (
            isinstance(self.descent, type) or not isinstance(self.descent, Descent)
        ):
            known = ", ".join(kind.__name__ for kind in DESCENTS.values())
            raise wrong("descent", self.descent, f"must be one of {known}")
        require_integer("steps", self.steps, at_least=0)
        require_integer("samples", self.samples, at_least=1)
        require_integer("evaluation_samples", self.evaluation_samples, at_least=1)
        require_choice("precision", self.precision, PRECISIONS)
        require_boolean("content_queries", self.content_queries)
        if not isinstance(self.schedule, Schedule):
            raise wrong("schedule", self.schedule, "must be a Schedule")
        self.schedule.recorded_steps(self.steps)
        seeds = counted_seeds(self.seeds)
        if not isinstance(self.seeds, Integral):
            object.__setattr__(self, "seeds", seeds)
        if self.data_set_size is not None:
            require_integer("data_set_size", self.data_set_size, at_least=1)
            if self.data_set_size < self.samples:
                raise wrong(
                    "data_set_size", self.data_set_size, f"must hold the {self.samples} samples of a batch"
                )
        object.__setattr__(self, "observables", as_observables("observables", self.observables))
        check_observables(self.recorded, self.generator.layout)
        self.objective.check(self.generator.layout, self.samples)
        self.objective.check(self.generator.layout, self.evaluation_samples)

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""
        return counted_seeds(self.seeds)

    @property
    def recorded(self) -> tuple[Observable, ...]:
        """The observables that this model has: content queries have some of their own."""
        named = as_observables("observables", self.observables)
        return tuple(each for each in named if self.content_queries or not each.needs_content_queries)

    @property
    def rule(self) -> Descent:
        """The rule of descent, the default one filled in."""
        if self.descent is not None:
            return self.descent
        return GradientDescent(learning_rate=self.objective.default_learning_rate(self.generator.layout))
