"""Claims judged on other models than the theory's layer: controls move along, and what a model lacks is told before."""

from dataclasses import dataclass, replace

import pytest
import xarray

import vitdyn as vd
from vitdyn.claims import CL_GLOBAL, CLAIMS, MAE_AREA, MAE_LOSS, MAE_TIME, MIM_ORDER
from vitdyn.dynamics import Training


@dataclass(frozen=True, kw_only=True)
class Mean(vd.Model):
    """Each query is given the mean of what it sees, by a trained factor; there are no attention maps."""

    name = "mean"

    def initial(self, generator, streams, like):
        return vd.Parameters(factor=like.new_ones(len(streams.seeds), generator.layout.patches))

    def outputs(self, parameters, batch, visible):
        seen = (batch.contents() * visible[..., None]).mean(2, keepdim=True)
        return parameters.factor[:, None, :, None] * seen


TWO_HEADS = vd.Transformer(heads=2)


def test_cases_and_controls_train_the_model_on_the_same_data_and_seeds():
    moved = CL_GLOBAL.on(TWO_HEADS)
    for kind in ("cases", "controls"):
        pairs = zip(getattr(CL_GLOBAL, kind)("full"), getattr(moved, kind)("full"), strict=True)
        for case, other in pairs:
            assert (type(other), other.name) == (type(case), case.name)
            assert getattr(other, "removes", None) is getattr(case, "removes", None)
            assert moved.prediction(other) == CL_GLOBAL.prediction(case)
            for run, twin in zip(case.runs, other.runs, strict=True):
                assert twin.training == replace(run.training, model=TWO_HEADS)
                assert twin.name == f"{run.name}-transformer" and twin.key != run.key
            assert (case.basis, other.basis) == (
                "full simulation",
                "full simulation of transformer, heads=2",
            )


@pytest.mark.parametrize(
    ("claim", "model", "reason"),
    [
        (MAE_TIME, TWO_HEADS, "is no simulation, which alone has a model, but mean field"),
        (MAE_LOSS, TWO_HEADS, "The model is the theory's layer."),
        (MIM_ORDER, TWO_HEADS, "Recorded: feature_position."),
        (MAE_AREA, Mean(), "Recorded: own_area_attention."),
        (CL_GLOBAL, Mean(), "Recorded: area_attention."),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
def test_a_claim_that_says_nothing_of_a_model_is_refused(claim, model, reason, complaint):
    with complaint("claim", f"is not judged on {model.describe()}: ") as refused:
        claim.on(model)
    assert claim.id in str(refused.value) and reason in str(refused.value)


class Read(dict):
    """A record that notes what is asked of it and has none of it."""

    attrs, variables = {}, property(lambda self: self)

    def __contains__(self, name):
        return True

    def __missing__(self, name):
        self[name] = xarray.DataArray(float("nan"))
        return self[name]

    def isel(self, **_):
        return self


@pytest.mark.parametrize("model", [TWO_HEADS, Mean()], ids=lambda model: model.name)
def test_a_claim_reads_what_its_runs_record(model):
    """One that is not refused finds all that it reads."""
    judged = []
    for claim in CLAIMS:
        try:
            case, *_ = claim.on(model).cases("quick")
        except ValueError as error:
            assert claim.id in str(error) and "\n" not in str(error)
            continue
        judged.append(claim.id)
        records = [Read() for _ in case.runs]
        with pytest.raises(Exception):  # noqa: B017  (there are no numbers: what was asked for is all)
            claim.measure(case, tuple(map(vd.Trajectory, records)))
        for run, record in zip(case.runs, records, strict=True):
            assert isinstance(run.training, Training)
            assert set(record) <= {each.name for each in run.training.recorded} | {"step", "time"}
    assert {"MAE-AREA", "CL-GLOBAL"}.issubset(judged) == (model is TWO_HEADS)


def test_a_claim_is_judged_on_heads():
    """Masked reconstruction with two heads attends to every area, and contrast does not."""
    generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))

    def case_of(objective):
        training = vd.Training(
            generator=generator, objective=objective, steps=80, seeds=4, schedule=vd.Schedule(frames=2)
        )
        return vd.Case.of(vd.Experiment(name=objective.name, training=training))

    claim = replace(
        MAE_AREA,
        assumptions=MAE_AREA.assumptions[-1:],
        predicted=lambda case: (0.5, 1.0),
        cases=lambda scale: (case_of(vd.MaskedReconstruction()),),
        controls=lambda scale: (case_of(vd.Contrastive()),),
    )
    verdicts = vd.check([claim.on(vd.Transformer(heads=2, initial_scale=0.1))], vd.run)
    assert [each.status for each in verdicts] == ["SUPPORTED", "REFUTED"]
    assert {each.basis for each in verdicts} == {"full simulation of transformer, heads=2, initial_scale=0.1"}
