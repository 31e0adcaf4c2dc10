"""What a theorist overrides is what trains: closed forms fall with what they were written with (exact).

Every subclass here changes a loss somewhere in a way that its parent's closed forms know nothing of. The gradient must
be that of autograd through the loss as it now is.
"""

import itertools
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from vitdyn._specs import to_text
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import GradientDescent, Training, loss_gradient, simulate, simulate_grid
from vitdyn.dynamics.grid import batch_key
from vitdyn.dynamics.memory import estimate_memory
from vitdyn.objectives import Contrastive, MaskedReconstruction, MeanPooled, Mixture, Objective, Residual
from vitdyn.objectives.contract import lower_bound_of
from vitdyn.reduced import ExactReduction, MeanField

LAYOUT = PatchLayout.from_sizes([9, 4, 3])
KINDS = (MaskedReconstruction, Contrastive, Mixture)
EACH = pytest.mark.parametrize("kind", KINDS)


def gradient(problem, objective):
    views = problem.views[: objective.view_count]
    found, forward = loss_gradient(problem.correlations, objective, problem.batch, views, {})
    return found.map(torch.clone), forward


def by_autograd(problem, objective):
    """∂/∂Q of the sum over seeds, through area attention and whatever the loss is."""
    views = problem.views[: objective.view_count]

    class Plain(Objective):
        name, family = objective.name, "generative"

        def loss(self, forward):
            return objective.loss(forward)

    return loss_gradient(problem.correlations, Plain(), problem.batch, views, {})[0].map(torch.clone)


def doubled_in_a_subclass(kind):
    class Mine(kind):
        def loss(self, forward):
            return 2 * super().loss(forward)

    return Mine()


def negated_by_a_dataclass(kind):
    @dataclass(frozen=True, kw_only=True)
    class Mine(kind):
        factor: float = -5.0

        def loss(self, forward):
            return self.factor * super().loss(forward)

    return Mine()


def changed_by_a_mixin(kind):
    class Tripled:
        def loss(self, forward):
            return 3 * super().loss(forward)

    class Mine(Tripled, kind):
        pass

    return Mine()


def changed_two_classes_up(kind):
    class Between(kind):
        def loss(self, forward):
            return super().loss(forward).square()

    class Mine(Between):
        def default_learning_rate(self, layout):
            return 1.0

    return Mine()


def assigned_after_the_class_was_made(kind):
    class Mine(kind):
        pass

    Mine.loss = lambda self, forward: 2 * kind.loss(self, forward)
    return Mine()


def assigned_to_the_object(kind):
    objective = kind()
    object.__setattr__(objective, "loss", lambda forward: 2 * kind.loss(objective, forward))
    return objective


CHANGED = (
    doubled_in_a_subclass,
    negated_by_a_dataclass,
    changed_by_a_mixin,
    changed_two_classes_up,
    assigned_after_the_class_was_made,
    assigned_to_the_object,
)


@EACH
@pytest.mark.parametrize("change", CHANGED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("content", [False, True])
def test_a_changed_loss_is_what_trains(kind, change, content, make_problem, close):
    problem, mine = make_problem(content=content), change(kind)
    found, _ = gradient(problem, mine)
    close(found, by_autograd(problem, mine), 1e-12)
    parents, _ = gradient(problem, kind())
    assert float((found.feature_position - parents.feature_position).abs().max()) > 1e-3 * float(
        parents.feature_position.abs().max()
    )


@EACH
@pytest.mark.parametrize("change", CHANGED, ids=lambda change: change.__name__)
def test_a_changed_loss_has_no_lower_bound_of_its_parents(kind, change, make_problem):
    _, forward = gradient(make_problem(), change(kind))
    assert lower_bound_of(change(kind), forward).isnan().all()
    assert lower_bound_of(kind(), forward).isfinite().all()


@pytest.mark.parametrize("content", [False, True])
def test_a_changed_helper_of_the_loss_is_what_trains(content, make_problem, close):
    class Cosine(Contrastive):
        def _logits(self, batch, *outputs):
            return super()._logits(batch, *(each / each.norm(dim=-1, keepdim=True) for each in outputs))

    class Own(Mixture):
        @property
        def reconstruction(self):
            return doubled_in_a_subclass(MaskedReconstruction)

    problem = make_problem(content=content, samples=5)
    for mine in (Cosine(), Own()):
        close(gradient(problem, mine)[0], by_autograd(problem, mine), 1e-12)


def test_what_is_no_part_of_the_loss_keeps_the_closed_forms():
    for kind in KINDS:

        class Mine(kind):
            mask_ratio: float = 0.25

            def default_learning_rate(self, layout):
                return 1.0

            def draw_views(self, generator, samples, patches):
                return super().draw_views(generator, samples, patches)

            def loss_queries(self, forward):
                return torch.ones_like(forward.views[0])

        assert Mine().holds("closed_form") and Mine().holds("lower_bound")
        assert kind().holds("reduction") and not Mine().holds("reduction")


def test_a_class_may_bring_a_closed_form_of_a_loss_of_its_own(make_problem, close):
    class Mine(MaskedReconstruction):
        def loss(self, forward):
            return 2 * super().loss(forward)

        def closed_form(self, batch):
            asked.append(True)
            return Residual(2 * super().closed_form(batch).scale)

    asked, problem = [], make_problem()
    close(gradient(problem, Mine())[0], by_autograd(problem, Mine()), 1e-12)
    assert asked
    assert (Mine().holds("closed_form"), Mine().holds("lower_bound")) == (True, False)


def training(objective, **options):
    return Training(
        **{
            "generator": PatchGenerator(layout=LAYOUT, latents=Uniform(low=0.5, high=1.5)),
            "objective": objective,
            "optimizer": GradientDescent(learning_rate=0.5),
            "steps": 6,
            "seeds": 3,
            "batch_size": 6,
            "precision": "float64",
            **options,
        }
    )


@EACH
def test_a_run_follows_the_changed_loss(kind):
    """Twice the loss at half the rate is the same descent, and a record of twice the loss."""
    rate = 1e-2 * kind().default_learning_rate(LAYOUT)
    plain = simulate(training(kind(), optimizer=GradientDescent(learning_rate=rate)))
    twice = simulate(training(doubled_in_a_subclass(kind), optimizer=GradientDescent(learning_rate=rate / 2)))
    for name in ("feature_position", "area_attention"):
        np.testing.assert_allclose(twice[name], plain[name], rtol=0, atol=1e-12)
    np.testing.assert_allclose(twice["loss"], 2 * plain["loss"], rtol=1e-12)
    assert float(abs(plain["feature_position"][-1]).max()) > 1e-6
    assert twice["excess_loss"].isnull().all()


def test_a_changed_loss_is_not_planned_as_its_parents(make_problem):
    changed = training(doubled_in_a_subclass(MaskedReconstruction), precision="float32")
    plain = training(MaskedReconstruction(), precision="float32")
    assert estimate_memory(changed) > estimate_memory(plain)
    assert batch_key(changed, torch.device("cpu")) is None


@pytest.mark.parametrize("kind", [MaskedReconstruction, Contrastive])
def test_a_changed_decay_is_what_trains(kind, make_problem, close):
    class Mine(kind):
        def decay(self, correlations):
            return correlations.feature_position.pow(4).sum((1, 2, 3))

    problem = make_problem()
    plain, _ = gradient(problem, kind())
    found, _ = gradient(problem, Mine())
    close(found.position_position, plain.position_position, 1e-14)
    force = 4 * problem.correlations.feature_position.pow(3)
    close(found.feature_position, plain.feature_position + force, 1e-12)


def test_weight_decay_of_a_class_is_trained(make_problem, close):
    """The λ that any objective has, trained or recorded alike, also where its class never speaks of it."""

    @dataclass(frozen=True, kw_only=True)
    class Mine(MaskedReconstruction):
        weight_decay: float = 0.3

    problem = make_problem()
    plain, _ = gradient(problem, MaskedReconstruction())
    expected = plain.map(lambda part, block: part + 0.3 * block, problem.correlations)
    close(gradient(problem, Mine())[0], expected, 1e-12)


def wrong(field, answer):
    def method(self, *arguments):
        return answer(getattr(super(kind, self), field)(*arguments))

    kind = type("Wrong", (MaskedReconstruction,), {field: method})
    return kind()


BAD = {
    "a mean over seeds": ("loss", lambda right: right.mean(), "(3,)"),
    "a value for each sample": ("loss", lambda right: right[:, None].expand(-1, 6), "(3,)"),
    "a number": ("loss", lambda right: float(right.sum()), "(3,)"),
    "whole numbers": ("loss", lambda right: right.long(), "(3,)"),
    "a constant": ("loss", lambda right: right.detach(), "differentiable"),
    "one bound": ("lower_bound", lambda right: right.mean(), "(3,)"),
    "one decay": ("decay", lambda right: right.sum(), "(3,)"),
    "queries of one seed": ("loss_queries", lambda right: right[:1], "(3, 6, 16)"),
    "queries as numbers": ("loss_queries", lambda right: right.double(), "truth values"),
    "views as one array": ("draw_views", lambda right: right[0], "tuple"),
    "no view": ("draw_views", lambda right: (), "tuple"),
    "a view without samples": ("draw_views", lambda right: (right[0][0],), "(6, 16)"),
    "probabilities as views": ("draw_views", lambda right: (right[0] * 0.5,), "truth values"),
    "a view too many": ("draw_views", lambda right: right * 2, "tuple of 1"),
    "a form that is none": ("closed_form", lambda right: 0.5, "must be a Residual"),
    "a scale for each sample": (
        "closed_form",
        lambda right: Residual(torch.zeros(3, 6, dtype=torch.float64)),
        "for each seed",
    ),
    "a gradient without means": (
        "closed_form",
        lambda right: MeanPooled(lambda means: ()),
        "one for each view",
    ),
    "a gradient of each query": (
        "closed_form",
        lambda right: MeanPooled(lambda means: (means[0][..., None],)),
        "(3, 6, 3)",
    ),
    "masks of a number": ("masking", lambda right: 0.5, "must be a Masking"),
    "memory without names": ("initial_state", lambda right: [], "mapping"),
    "memory without seeds": ("initial_state", lambda right: {"centre": torch.zeros(2)}, "3 seeds"),
    "memory of numbers": ("update_state", lambda right: {"count": 1.0}, "3 seeds"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_answer_is_refused_by_name(case, complaint):
    field, answer, remedy = BAD[case]
    name = f"Wrong.{field}" + {"memory without seeds": "['centre']", "memory of numbers": "['count']"}.get(
        case, ""
    )
    with complaint(name, remedy):
        simulate(training(wrong(field, answer), evaluation_samples=6))


class Teacher(MaskedReconstruction):
    """Half the squared distance of the student's attention from its teacher's, as it was before the last step."""

    own = False

    def loss(self, forward):
        from vitdyn.models import Correlations

        teacher = forward.attend(Correlations(forward.state["phi"], forward.state["upsilon"]), 0)
        return super().loss(forward) + (forward.attention[0] - teacher).square().sum((1, 2, 3))

    def remember(self, correlations):
        blocks = correlations.map(torch.clone) if self.own else correlations
        return {"phi": blocks.feature_position, "upsilon": blocks.position_position}

    def initial_state(self, correlations, streams):
        return self.remember(correlations)

    def update_state(self, forward, correlations):
        return forward.state if self.frozen else self.remember(correlations)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_teacher_made_of_the_models_own_blocks_is_a_teacher(frozen):
    """The model moves in place: were its blocks kept as they are, the teacher would be the student at every step."""
    careless, careful = (type("Named", (Teacher,), {"own": own, "frozen": frozen})() for own in (False, True))
    found, expected = simulate(training(careless)), simulate(training(careful))
    assert found.dataset.drop_attrs().equals(expected.dataset.drop_attrs())
    alone = simulate(training(MaskedReconstruction()))
    if frozen:
        assert float(abs(found["feature_position"] - alone["feature_position"]).max()) > 1e-3


def test_a_state_that_loses_a_part_is_refused(complaint):
    class Forgetful(Teacher):
        def update_state(self, forward, correlations):
            return {"phi": correlations.feature_position}

    with complaint("Forgetful.update_state", "must return upsilon too, as initial_state does"):
        simulate(training(Forgetful()))


def test_scratch_arrays_may_be_remembered():
    class Remembering(MaskedReconstruction):
        def initial_state(self, correlations, streams):
            return {"seen": correlations.feature_position.new_zeros(correlations.seeds, 6, LAYOUT.areas, 16)}

        def update_state(self, forward, correlations):
            kept.append((forward.attention[0].clone(), forward.state["seen"].clone()))
            return {"seen": forward.attention[0]}

    kept = []
    simulate(training(Remembering(), evaluation_samples=6))
    for (before, _), (_, remembered) in itertools.pairwise(kept):
        assert torch.equal(before, remembered)
    assert len(kept) == 6


def test_a_generator_of_ones_own_is_asked_for_samples():
    """Also where a device could draw them itself."""
    from vitdyn.dynamics.grid import is_capturable

    class Strong(PatchGenerator):
        def sample(self, *arguments, **options):
            batch = super().sample(*arguments, **options)
            return replace(batch, latents=2 * batch.latents)

    own = training(MaskedReconstruction(), generator=Strong(layout=LAYOUT))
    assert not is_capturable(own)
    assert is_capturable(training(MaskedReconstruction()))
    assert is_capturable(replace(own, generator=PatchGenerator(layout=LAYOUT)))


@EACH
def test_reductions_refuse_a_loss_that_they_were_not_derived_for(kind, complaint):
    """The flow of the parent was returned for a loss of its child, or for anything that was named "mae"."""
    sizes = AreaSizes.from_exponents(1e4, 0.9, 0.3)
    MeanField(sizes=sizes, objective=kind(), clusters=2)
    ExactReduction(layout=LAYOUT, objective=kind())
    for change in CHANGED:
        with complaint("objective", "with its own loss"):
            MeanField(sizes=sizes, objective=change(kind), clusters=2)
        with complaint("objective", "with its own loss"):
            ExactReduction(layout=LAYOUT, objective=change(kind))

    class Decaying(kind):
        def decay(self, correlations):
            return 2 * super().decay(correlations)

    with complaint("objective", "with its own loss"):
        MeanField(sizes=sizes, objective=Decaying(), clusters=2)


def test_a_rule_of_descent_moves_in_place_and_owns_its_state(complaint):
    class Returning(GradientDescent):
        def step(self, correlations, gradient, state, count):
            return correlations.map(lambda block, part: block - 0.5 * part, gradient)

    class Anchored(GradientDescent):
        """Pulled back to where it was at the start: to itself, were its state the model's own blocks."""

        def init(self, correlations):
            return {"anchor": correlations.map(torch.clone) if own else correlations}

        def step(self, correlations, gradient, state, count):
            correlations.map(
                lambda block, part, start: block.sub_(0.5 * part + 0.1 * (block - start)),
                gradient,
                state["anchor"],
            )

    with complaint("Returning.step", "in place"):
        simulate(training(MaskedReconstruction(), optimizer=Returning(learning_rate=0.5)))
    runs = []
    for own in (True, False):  # noqa: B007  # read by Anchored
        runs.append(simulate(training(MaskedReconstruction(), optimizer=Anchored(learning_rate=0.5))))
    assert runs[0].dataset.drop_attrs().equals(runs[1].dataset.drop_attrs())
    plain = simulate(training(MaskedReconstruction()))
    assert float(abs(plain["feature_position"] - runs[0]["feature_position"]).max()) > 1e-3


def twice_by_a_class_variable(kind):
    @dataclass(frozen=True, kw_only=True)
    class Mine(kind):
        loss: ClassVar = lambda self, forward: 2 * kind.loss(self, forward)

    return Mine()


def twice_by_a_field(kind):
    @dataclass(frozen=True, kw_only=True)
    class Mine(kind):
        loss: object = field(default=None, init=False)

        def __post_init__(self):
            object.__setattr__(self, "loss", lambda forward: 2 * kind.loss(self, forward))

    return Mine()


def twice_by_attribute_access(kind):
    class Mine(kind):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            return (lambda forward: 2 * found(forward)) if name == "loss" else found

    return Mine()


@EACH
@pytest.mark.parametrize("change", [twice_by_a_class_variable, twice_by_a_field, twice_by_attribute_access])
def test_stranger_ways_to_change_a_loss(kind, change, make_problem, close):
    problem, mine = make_problem(), change(kind)
    parents = gradient(problem, kind())[0].map(lambda block: 2 * block)
    close(gradient(problem, mine)[0], parents, 1e-12)


@pytest.mark.parametrize("helper", ["__call__", "__power__", "loss_queries", "check", "initial_state"])
def test_helpers_of_any_name_count(helper, make_problem, close):
    """A loss with a closed form of its own, and below it a class that changes only what both of them call."""

    def one(self, *arguments):
        return 1.0

    def two(self, *arguments):
        return 2.0

    class Own(MaskedReconstruction):
        def loss(self, forward):
            return getattr(type(self), helper)(self) * MaskedReconstruction.loss(self, forward)

        def closed_form(self, batch):
            return MaskedReconstruction.closed_form(self, batch)

    source = f"def loss(self, forward):\n    return self.{helper}() * Base.loss(self, forward)\n"
    space = {"Base": MaskedReconstruction}
    exec(source, space)
    kind = type(
        "Own", (MaskedReconstruction,), {helper: one, "loss": space["loss"], "closed_form": Own.closed_form}
    )
    below = type("Below", (kind,), {helper: two})
    problem = make_problem()
    plain = gradient(problem, MaskedReconstruction())[0]
    assert kind().holds("closed_form") and not below().holds("closed_form")
    close(gradient(problem, kind())[0], plain, 1e-12)
    close(gradient(problem, below())[0], plain.map(lambda block: 2 * block), 1e-12)


def test_a_decay_of_an_object_is_trained(make_problem, close):
    mine = Contrastive()
    object.__setattr__(
        mine, "decay", lambda correlations: correlations.feature_position.square().sum((1, 2, 3))
    )
    problem = make_problem()
    expected = (
        gradient(problem, Contrastive())[0].feature_position + 2 * problem.correlations.feature_position
    )
    close(gradient(problem, mine)[0].feature_position, expected, 1e-12)


class Loud(Uniform):
    """Draws with a gain that is no field: equal to any other, it draws otherwise."""

    def __init__(self, gain):
        super().__init__(low=0.5, high=9.0)
        vars(self)["gain"] = gain

    def from_uniform(self, uniform):
        return 0.5 + self.gain * uniform


@dataclass(frozen=True, kw_only=True)
class Scaled(PatchGenerator):
    gain: float = field(default=1.0, compare=False)

    def sample(self, *arguments, **options):
        batch = super().sample(*arguments, **options)
        return replace(batch, latents=self.gain * batch.latents)


def with_a_loss_of_its_own():
    mine = MaskedReconstruction()
    object.__setattr__(mine, "loss", lambda forward: 2 * MaskedReconstruction.loss(mine, forward))
    return mine


def with_a_part_of_its_own():
    mine = Mixture()
    vars(mine)["reconstruction"] = doubled_in_a_subclass(MaskedReconstruction)
    return mine


def with_a_scale(scale):
    class Mine(MaskedReconstruction):
        batchable_fields = MaskedReconstruction.batchable_fields
        scale = 1.0

        def loss(self, forward):
            return self.scale * super().loss(forward)

    mine = Mine()
    object.__setattr__(mine, "scale", scale)
    return mine


def stopped():
    rule = GradientDescent(learning_rate=0.5)
    object.__setattr__(rule, "step", lambda *arguments: None)
    return rule


GRIDS = {
    "a gain of the latents": lambda: [
        training(MaskedReconstruction(), generator=PatchGenerator(layout=LAYOUT, latents=Loud(gain)))
        for gain in (1.0, 2.0)
    ],
    "a gain of the generator": lambda: [
        training(MaskedReconstruction(), generator=Scaled(layout=LAYOUT, gain=gain)) for gain in (1.0, 2.0)
    ],
    "an object's loss": lambda: [training(MaskedReconstruction()), training(with_a_loss_of_its_own())],
    "an object's part": lambda: [training(Mixture()), training(with_a_part_of_its_own())],
    "an object's scale": lambda: [training(with_a_scale(scale)) for scale in (1.0, 5.0)],
    "an object's step": lambda: [
        training(MaskedReconstruction()),
        training(MaskedReconstruction(), optimizer=stopped()),
    ],
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_grid_is_its_cells_also_where_they_look_alike(name, precision):
    """Cells that compare equal and draw or compute otherwise took the first one's samples or losses."""
    cells = [replace(cell, precision=precision) for cell in GRIDS[name]()]
    together = simulate_grid(cells)
    for cell, found in zip(cells, together, strict=True):
        assert found.dataset.drop_attrs().equals(simulate(cell).dataset.drop_attrs())
    assert not together[0]["loss"].equals(together[1]["loss"])
    assert to_text(cells[0]) != to_text(cells[1])


@pytest.mark.parametrize("what", ["membership", "latents", "attention", "view"])
def test_a_loss_that_changes_what_it_is_given_is_refused(what, complaint):
    """The table of areas is shared by all runs of a layout: the next run was wrong."""

    class Mine(MaskedReconstruction):
        def loss(self, forward):
            parts = {
                "membership": forward.batch.membership,
                "latents": forward.batch.latents,
                "view": forward.views[0],
                "attention": forward.attention[0],
            }
            if what == "view":
                parts[what].logical_not_()
            else:
                parts[what].mul_(0.5)
            return super().loss(forward)

    before = simulate(training(MaskedReconstruction()))
    with complaint("Mine.loss", "copy"):
        simulate(training(Mine()))
    assert simulate(training(MaskedReconstruction())).dataset.drop_attrs().equals(before.dataset.drop_attrs())


def test_a_field_that_would_keep_its_parents_value_is_refused(complaint):
    with complaint("Mine.mask_ratio", "annotate it"):

        class Mine(MaskedReconstruction):
            mask_ratio = 0.9


def test_what_was_put_into_an_object_keeps_it_from_the_reductions(complaint):
    sizes = AreaSizes.from_exponents(1e4, 0.9, 0.3)
    for objective in (with_a_loss_of_its_own(), with_a_part_of_its_own()):
        with complaint("objective", "with its own loss"):
            MeanField(sizes=sizes, objective=objective, clusters=2)


def test_a_view_that_the_class_did_not_declare_is_refused(complaint):
    class Mine(Objective):
        name, family = "mine", "generative"

        def loss(self, forward):
            return forward.mean_outputs(1).square().sum((1, 2))

    with complaint("view", "view_count"):
        simulate(training(Mine()))
