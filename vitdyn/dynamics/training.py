"""The specification of a run: what is trained, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral

from vitdyn._errors import invalid_value, require_boolean, require_choice, require_integer, require_kind
from vitdyn._specs import ADDED_LATER
from vitdyn.data import PatchGenerator
from vitdyn.dynamics.optimizers import OPTIMIZERS, GradientDescent, Optimizer
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.models import LAYER, Model, OneLayer
from vitdyn.models.model import CLOSED_FORMS, CONTENT_QUERIES
from vitdyn.objectives import OBJECTIVES, Objective
from vitdyn.observables import RECORD, Observable
from vitdyn.observables.catalogue import as_observables
from vitdyn.observables.observable import check_observables
from vitdyn.observables.schedule import Schedule
from vitdyn.seeds import counted_seeds


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and how: everything that decides a run's numbers but its device.

    ``model`` is the theory's layer (``OneLayer``), a ``Transformer``, or a ``Model`` of your own. Where the data go
    beyond the layer's kernels (``PatchGenerator.beyond_layer``), ``trained_model`` is the layer written plainly.

    ``seeds`` is a count (seeds 0, 1, ...) or the seeds themselves. Each step draws ``batch_size`` samples per
    seed: fresh ones, or from a fixed data set of ``dataset_size``. ``optimizer`` None means gradient descent
    at the objective's own learning rate. Frames are measured on ``evaluation_samples`` samples that
    training does not see; ``observables`` are what they hold, given as ``Observable`` or by name.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> generator = vd.PatchGenerator(layout=layout)
    >>> vd.Training(generator=generator, objective=vd.Contrastive(), seeds=range(3)).seed_numbers
    (0, 1, 2)
    """

    generator: PatchGenerator
    objective: Objective
    optimizer: Optimizer | None = None
    steps: int = 400
    batch_size: int = 32
    seeds: int | tuple[int, ...] = 8
    schedule: Schedule = field(default_factory=Schedule)
    dataset_size: int | None = None
    evaluation_samples: int = 32
    observables: tuple[Observable | str, ...] = RECORD
    content_queries: bool = False
    precision: str = "float32"
    model: Model = field(default=LAYER, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        require_kind("generator", self.generator, PatchGenerator)
        require_kind("schedule", self.schedule, Schedule)
        if not isinstance(self.objective, Objective):
            known = ", ".join(kind.__name__ for kind in OBJECTIVES.values())
            remedy = f"must be an Objective: one of {known}, or your own"
            raise invalid_value("objective", self.objective, remedy)
        own = self.optimizer
        # a class satisfies a protocol as its objects do
        if own is not None and (isinstance(own, type) or not isinstance(own, Optimizer)):
            known = ", ".join(kind.__name__ for kind in OPTIMIZERS.values())
            raise invalid_value("optimizer", own, f"must be one of {known}")
        require_integer("steps", self.steps, at_least=0)
        require_integer("batch_size", self.batch_size, at_least=1)
        require_integer("evaluation_samples", self.evaluation_samples, at_least=1)
        require_choice("precision", self.precision, PRECISIONS)
        require_boolean("content_queries", self.content_queries)
        require_kind("model", self.model, Model)
        if self.content_queries and CLOSED_FORMS not in self.model.offers:
            remedy = (
                f"is of the theory's layer: {self.model.name} says by its own fields what its queries carry"
            )
            raise invalid_value("content_queries", True, remedy)
        self.trained_model.check(self.generator)
        self.schedule.recorded_steps(self.steps)  # raises where it does not fit
        # plain tuples, whatever was given: as JSON gives them back, so that both are one specification
        seeds = counted_seeds(self.seeds)
        if not isinstance(self.seeds, Integral):
            object.__setattr__(self, "seeds", seeds)
        if self.dataset_size is not None:
            require_integer("dataset_size", self.dataset_size, at_least=1)
            if self.dataset_size < self.batch_size:
                remedy = f"must hold the {self.batch_size} samples of a batch"
                raise invalid_value("dataset_size", self.dataset_size, remedy)
        object.__setattr__(self, "observables", as_observables("observables", self.observables))
        for each in self.observables:
            if isinstance(each, Observable) and each not in self.recorded and each not in RECORD:
                words = f"needs {each.needs}, which {self.trained_model.name} lacks"
                if self.trained_model is not self.model:  # the user has named no such model
                    field = self.generator.beyond_layer
                    words += f", that trains in place of {self.model.name} for generator.{field}: read state.parameters"
                raise invalid_value("observables", each.name, words)
        check_observables(self.recorded, self.generator.layout)
        self.objective.check(self.generator.layout, self.batch_size)
        self.objective.check(self.generator.layout, self.evaluation_samples)

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""
        return counted_seeds(self.seeds)

    @property
    def trained_model(self) -> Model:
        """The model that runs: ``model``, or the theory's layer written plainly where data go beyond its kernels."""
        own = self.model
        # a subclass has outputs of its own, and says itself what it can be evaluated on
        if type(own) is OneLayer and self.generator.beyond_layer is not None:
            return own.plain(content_queries=self.content_queries)
        return own

    @property
    def recorded(self) -> tuple[Observable, ...]:
        """The observables that this model has, of the standard record: others are refused where it lacks them."""
        named = as_observables("observables", self.observables)
        return tuple(each for each in named if not each.needs or each.needs in self.offers)

    @property
    def offers(self) -> frozenset[str]:
        """What there is of the model (``Model.offers``), content queries among it where they are trained."""
        offered = self.trained_model.offers
        asked = self.content_queries and CLOSED_FORMS in offered  # its plain twin has them in other blocks
        return offered | ({CONTENT_QUERIES} if asked else set())

    @property
    def resolved_optimizer(self) -> Optimizer:
        """The optimizer, the default one filled in."""
        if self.optimizer is not None:
            return self.optimizer
        return GradientDescent(learning_rate=self.objective.default_learning_rate(self.generator.layout))
