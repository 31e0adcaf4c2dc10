"""Every assumption of every claim can be false, and a case that breaks it decides nothing. Nothing is simulated."""

from contextlib import suppress
from dataclasses import replace
from functools import cache

import pytest

from vitdyn.claims import CLAIMS, INCONCLUSIVE, Case, judge
from vitdyn.claims.flows import flow
from vitdyn.data import AreaSizes, Constant, PatchGenerator, PatchLayout, TruncatedNormal, Uniform
from vitdyn.dynamics import Adam, GradientDescent, Training
from vitdyn.experiments import Experiment
from vitdyn.models import Transformer
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.vits import Landscape

SIMULATION = Training(
    generator=PatchGenerator(layout=PatchLayout.from_exponents(64, 0.9, 0.4)),
    objective=MaskedReconstruction(),
)


def with_latents(distribution):
    def change(spec):
        if isinstance(spec, Training):
            return replace(spec, generator=replace(spec.generator, latents=distribution))
        return replace(spec, latents=distribution)

    return change


def with_layout(patches, kappa_c, kappa_s, clusters, **options):
    def change(spec):
        if isinstance(spec, Training):
            layout = PatchLayout.from_exponents(patches, kappa_c, kappa_s, clusters=clusters, **options)
            return replace(spec, generator=replace(spec.generator, layout=layout))
        return replace(spec, sizes=AreaSizes.from_exponents(patches, kappa_c, kappa_s), clusters=clusters)

    return change


def with_data(**changes):
    # a flow has no generator, and None is no dataclass: a TypeError, as for any field that a spec lacks
    return lambda spec: replace(spec, generator=replace(getattr(spec, "generator", None), **changes))


def with_fields(**changes):
    return lambda spec: replace(spec, **changes)


def with_objective(**changes):
    return lambda spec: replace(spec, objective=replace(spec.objective, **changes))


GRID = {"grid": (12, 12)}
CHANGES = (
    lambda spec: SIMULATION,
    lambda spec: flow(1e4, 0.9, 0.3, MaskedReconstruction()).training,
    with_fields(dataset_size=256),
    with_fields(observables=("loss",)),
    with_fields(model=Transformer()),
    with_fields(model=Transformer(heads=2, initial_scale=3.0, values="scalar", content_queries=True)),
    with_fields(optimizer=Adam(learning_rate=0.1)),
    with_fields(optimizer=GradientDescent(learning_rate=0.1)),
    with_latents(Constant(value=1.25)),
    with_fields(content_queries=True),
    with_fields(content_queries=False),
    with_fields(position_correlations=True, clusters=1),
    with_fields(position_correlations=False),
    with_fields(steps=3),
    with_fields(negatives=2),
    with_fields(batch_size=8),
    with_fields(learning_rate=0.5),
    with_fields(latents=Uniform(low=1.0, high=9.0)),
    with_fields(objective=MaskedReconstruction()),
    with_fields(objective=Contrastive()),
    with_objective(mask_ratio=0.625),
    with_objective(temperature=0.3),
    with_latents(Uniform(low=0.0, high=1.0)),
    with_latents(Uniform(low=1.0, high=9.0)),
    with_latents(TruncatedNormal()),
    with_data(latent_correlation=0.3),
    with_layout(64, 0.9, 0.4, 2),
    with_layout(144, 0.9, 0.4, 1, **GRID),
    with_layout(144, 0.6, 0.5, 5, **GRID),
    with_layout(144, 0.98, 0.1, 2, **GRID),
    with_layout(144, 0.9, 0.4, 2, arrangement="scattered", **GRID),
    with_layout(400, 0.9, 0.4, 2),
    with_layout(144, 0.9, 0.4, 2, grid=(9, 16), arrangement="contiguous"),
    with_layout(256, 0.55, 0.1, 1),
    with_fields(layout=PatchLayout.from_sizes([8, 4, 4], clusters=2)),
    lambda spec: replace(
        spec, generator=PatchGenerator(layout=PatchLayout.from_sizes([128, 64, 64], clusters=3))
    ),
)


def changed(case):
    """Cases that differ from one in a single respect: in all runs, in the first, or in their number."""
    yield replace(case, runs=case.runs[:1])
    yield replace(case, runs=case.runs * 2)
    yield replace(case, runs=case.runs[::-1])
    for change in CHANGES:
        for some in (len(case.runs), 1):
            try:
                made = tuple(replace(run, training=change(run.training)) for run in case.runs[:some])
            except (AttributeError, TypeError, ValueError):  # no such field, or no such run
                continue
            yield replace(case, runs=made + case.runs[some:])


@cache
def changed_cases(number):
    """All changes of all cases of a claim: they are the same for each of its assumptions."""
    return tuple(other for case in CLAIMS[number].cases("quick") for other in changed(case))


@pytest.mark.parametrize("number", range(len(CLAIMS)), ids=[claim.id for claim in CLAIMS])
def test_a_case_that_breaks_an_assumption_decides_nothing_and_says_so(number):
    claim = CLAIMS[number]
    fails = replace(
        claim, predicted=lambda case: pytest.fail("judged"), measure=lambda *_: pytest.fail("measured")
    )
    unbroken = {each.sentence for each in claim.assumptions}
    assert claim.assumed == " ".join(each.sentence for each in claim.assumptions)
    for case in changed_cases(number):
        broken = {each.sentence for each in claim.assumptions if not each.holds(case)}
        if broken:
            verdict = judge(fails, case, ())
            assert verdict.status == INCONCLUSIVE
            assert all(sentence in verdict.reason for sentence in broken)
        unbroken -= broken
    assert not unbroken, "no case breaks them"


@pytest.mark.parametrize("scale", ["quick", "full"])
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_cases_and_controls_meet_the_assumptions_but_for_the_one_that_a_control_removes(claim, scale):
    for case in (*claim.cases(scale), *claim.controls(scale)):
        assert claim.unmet(case) == "", case.name
        removed = getattr(case, "removes", None)
        if removed:
            assert removed in claim.assumptions and not removed.holds(case)


@pytest.mark.parametrize("scale", ["quick", "full"])
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_has_a_near_control(claim, scale):
    """One with the objectives of a case on other data or for less long, or a case's runs under a moved prediction."""
    cases = claim.cases(scale)
    objectives = [[_kind(run) for run in case.runs] for case in cases]
    assert [
        control for control in claim.controls(scale) if [_kind(run) for run in control.runs] in objectives
    ]


def _kind(run):
    """What a run trains by: an objective of the layer, or a method of small ViTs."""
    landscape = isinstance(run.training, Landscape)
    return type(run.training.training.method if landscape else run.training.objective)


@pytest.mark.parametrize("number", range(len(CLAIMS)), ids=[claim.id for claim in CLAIMS])
def test_what_meets_the_assumptions_has_a_prediction(number):
    """Or an ``ArithmeticError``, which a verdict tells: assumptions are all that a prediction relies on."""
    claim = CLAIMS[number]
    met = [other for other in changed_cases(number) if not claim.unmet(other)]
    assert met
    for case in met:
        with suppress(ArithmeticError):
            low, high = claim.prediction(case)
            assert low < high


def test_every_claim_states_at_least_two_assumptions():
    assert all(len(claim.assumptions) >= 2 for claim in CLAIMS)


def test_experiments_of_the_changes_are_experiments():
    """The construction is no empty one: most changes apply to some case of some claim."""
    made = [case for number in range(len(CLAIMS)) for case in changed_cases(number)]
    assert len(made) > 10 * sum(len(claim.cases("quick")) for claim in CLAIMS)
    assert all(isinstance(case, Case) and isinstance(case.runs[0], Experiment) for case in made)
