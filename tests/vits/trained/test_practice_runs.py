"""Runs: the same bits again, after an interrupt and in another process; files whole or not at all. Exact."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn import _files
from vitdyn._signals import interrupted_by_sigterm
from vitdyn._specs import to_text
from vitdyn.dynamics import CheckpointError, Runtime
from vitdyn.dynamics.checkpoint import write_checkpoint
from vitdyn.dynamics.resources import machine_name
from vitdyn.experiments import Experiment, ResultStore, run, side_by_side
from vitdyn.trajectory import Trajectory
from vitdyn.vits import (
    MEANINGS,
    METHODS,
    Digits,
    Evaluation,
    Photographs,
    Pretraining,
    SmallViT,
    by_depth,
    estimate_seconds,
    pretrain,
    spec_of,
)
from vitdyn.vits.methods import BYOL, DINO, Contrast, Data2Vec, Mixture, Reconstruction, SimCLR, VICReg
from vitdyn.vits.pretraining_loop import draw_batch, train

ALWAYS = Runtime(checkpoint_seconds=0)
"""A checkpoint after each step."""
ANEW = Runtime(anew=True)


def experiment(spec):
    return Experiment(name=f"{spec.method_name}-{spec.seed}", training=spec)


def same_numbers(first, second):
    for name, values in first.dataset.data_vars.items():
        np.testing.assert_array_equal(values, second.dataset[name])


def equal(first, second):
    return all(
        torch.equal(a, b)
        for a, b in zip(
            first.learner.state_dict().values(), second.learner.state_dict().values(), strict=True
        )
    ) and torch.equal(first.losses, second.losses)


class Interrupt:
    """Raises KeyboardInterrupt after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self, steps):
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("method", "optimizer"), [*((each, "adamw") for each in METHODS), ("rc-mae", "descent")]
)
def test_an_interrupted_run_resumes_to_the_same_bits(tiny, method, optimizer, tmp_path):
    spec, path = tiny(method, optimizer=optimizer), tmp_path / "run.checkpoint"
    torch.manual_seed(1)
    whole = train(spec)
    with pytest.raises(KeyboardInterrupt):
        train(spec, checkpoint=path, runtime=ALWAYS, advance=Interrupt(3))
    assert path.is_file()
    steps = []
    torch.manual_seed(2)
    resumed = train(spec, checkpoint=path, runtime=ALWAYS, advance=steps.append)
    assert steps[0] == 4 and sum(steps) == 5  # the step that was done when the interrupt came is kept
    assert equal(whole, resumed)


def test_a_checkpoint_of_another_run_is_refused(tiny, tmp_path, complaint):
    path = tmp_path / "run.checkpoint"
    train(tiny(), checkpoint=path, runtime=ALWAYS)
    with complaint("checkpoint"):
        train(tiny(seed=4), checkpoint=path)


CRAFTED = {
    "a list": lambda state: [state],
    "no step": lambda state: {name: part for name, part in state.items() if name != "step"},
    "a step beyond the end": lambda state: state | {"step": 6},
    "a negative step": lambda state: state | {"step": -1},
    "a step of another type": lambda state: state | {"step": 3.0},
    "a step without its losses": lambda state: state | {"losses": state["losses"] * torch.nan},
    "losses of another length": lambda state: state | {"losses": state["losses"][:-1]},
    "losses of another type": lambda state: state | {"losses": state["losses"].double()},
    "losses as a list": lambda state: state | {"losses": state["losses"].tolist()},
    "no learner": lambda state: state | {"learner": {}},
    "a learner of another type": lambda state: (
        state | {"learner": {name: part.double() for name, part in state["learner"].items()}}
    ),
    "a learner of other shapes": lambda state: (
        state | {"learner": {name: part[..., :1] for name, part in state["learner"].items()}}
    ),
    "no moments": lambda state: state | {"moments": None},
    "moments of other shapes": lambda state: (
        state
        | {
            "moments": {
                name: moments | {"exp_avg": torch.zeros(2, 2, 2, 2, 2)}
                for name, moments in state["moments"].items()
            }
        }
    ),
    "machines that are none": lambda state: state | {"machines": [3]},
    "kept states that nobody asked for": lambda state: state | {"kept": [state["learner"]]},
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_checkpoint_that_this_run_cannot_have_written(tiny, name, tmp_path, monkeypatch):
    """One line, before a step is taken; on request the run starts anew, to the bits of one that never stopped."""
    spec, path = tiny(), tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(spec, checkpoint=path, runtime=ALWAYS, advance=Interrupt(3))
    contents = torch.load(path, weights_only=True)
    write_checkpoint(path, contents["spec"], CRAFTED[name](contents["state"]))
    with pytest.raises(CheckpointError, match=r"\A[^\n]*run.checkpoint[^\n]*--anew[^\n]*\Z"):
        train(spec, checkpoint=path, advance=Interrupt(0))
    if name in ("a list", "moments of other shapes"):
        assert equal(train(spec, checkpoint=path, runtime=ANEW), train(spec))


def test_a_run_that_goes_on_on_another_machine_says_so(tiny, tmp_path, monkeypatch):
    path, here = tmp_path / "run.checkpoint", machine_name()
    assert pretrain(tiny()).dataset.attrs["machine"] == here
    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny(), checkpoint=path, runtime=ALWAYS, advance=Interrupt(2))
    monkeypatch.setattr("vitdyn.vits.pretraining_loop.machine_of", lambda device: "another processor")
    assert pretrain(tiny(), checkpoint=path).dataset.attrs["machine"] == f"{here}; another processor"
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step_and_the_state_is_kept(tiny, number, tmp_path, monkeypatch):
    """In the middle of a step, where parameters are half of the next one."""
    spec, path = tiny(), tmp_path / "run.checkpoint"
    whole, steps, taken = train(spec), [], torch.optim.AdamW.step

    def step(self, *given):
        steps.append(None)
        if len(steps) == 3:
            signal.raise_signal(number)
        return taken(self, *given)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), interrupted_by_sigterm():
        patch.setattr(torch.optim.AdamW, "step", step)
        train(spec, checkpoint=path, runtime=Runtime(checkpoint_seconds=1e6))
    signal.signal(signal.SIGINT, before)
    assert torch.load(path, weights_only=True)["state"]["step"] == 3
    assert equal(train(spec, checkpoint=path), whole)


def test_seeds_and_methods_differ_and_losses_are_recorded(tiny):
    first = train(tiny())
    assert first.losses.shape == (5,) and bool(first.losses.isfinite().all())
    assert not torch.equal(first.losses, train(tiny(seed=4)).losses)
    assert train(tiny("untrained")).losses.shape == (0,)


def test_training_lowers_the_loss(tiny):
    losses = train(tiny(steps=60, batch_size=32)).losses
    assert float(losses[-5:].mean()) < 0.5 * float(losses[0])


def test_a_loss_that_is_not_finite_ends_the_run(tiny):
    with pytest.raises(ArithmeticError, match="learning_rate"):
        train(tiny(learning_rate=10.0, weight_decay=1.0, steps=40, warmup=0.0))


def test_the_rate_rises_and_falls_and_momentum_ends_at_1():
    spec = Pretraining(method=Contrast(), steps=100, warmup=0.1, learning_rate=1.0)
    rates = [spec.rate(step) for step in range(100)]
    assert np.argmax(rates) == 10 and rates[10] == 1.0
    assert rates[4] == pytest.approx(5 / 11) and rates[55] == pytest.approx(0.5) and rates[99] < 1e-3
    batches = (replace(draw_batch(spec, Digits().load(), 0), step=step) for step in (0, 50, 100))
    assert [batch.momentum(0.9) for batch in batches] == pytest.approx([0.9, 0.95, 1.0])


def test_a_specification_goes_through_json(tiny):
    for images in (Digits(test=99), Photographs(pictures=("coins", "grass"))):
        asked = experiment(tiny("mixture", images=images, vit=SmallViT(patch=2, depth=2, width=16)))
        again = Experiment.from_json(asked.to_json())
        assert again == asked and again.key == asked.key and asked.unnamed is None
    others = (
        tiny(),
        tiny(seed=9),
        tiny("contrast"),
        tiny(evaluation=Evaluation()),
        tiny(optimizer="descent"),
    )
    assert len({experiment(each).key for each in others}) == 5
    for each in others[:1] + others[-1:]:
        # results from before there was a choice keep their keys
        assert ("optimizer" in to_text(each)) == (each.optimizer == "descent")
        assert Experiment.from_json(experiment(each).to_json()).training == each


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("method", {"method": "contrast"}),
        ("readout", {"readout": "max"}),
        ("optimizer", {"optimizer": "sgd"}),
        ("images", {"images": "digits"}),
        ("vit", {"vit": None}),
        ("augmentation", {"augmentation": {}}),
        ("evaluation", {"evaluation": 3}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 2.5}),
        ("steps", {"method": None}),
        ("batch_size", {"batch_size": 1}),
        ("learning_rate", {"learning_rate": -1.0}),
        ("mask", {"method": Reconstruction(mask=0.99)}),
        ("blocks", {"method": Data2Vec(blocks=3)}),
        ("mask", {"method": Mixture(reconstruction=Reconstruction(mask=0.99))}),
        ("patch", {"vit": SmallViT(patch=3)}),
        ("patch", {"vit": SmallViT(patch=8)}),
    ],
)
def test_bad_specifications_are_named(tiny, field, changes, complaint):
    with complaint(field):
        replace(tiny(), **changes)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("width", lambda: SmallViT(width=18)),
        ("width", lambda: SmallViT(width=32, heads=3)),
        ("decoder_width", lambda: SmallViT(decoder_width=6)),
        ("depth", lambda: SmallViT(depth=0)),
        ("views", lambda: Evaluation(views=9)),
        ("penalty", lambda: Evaluation(penalty=-1.0)),
        ("weight", lambda: Mixture(weight=1.5)),
        ("contrast", lambda: Mixture(contrast=Reconstruction())),
        ("momentum", lambda: Contrast(momentum=float("nan"))),
        ("temperature", lambda: Contrast(temperature=0.0)),
        ("projection", lambda: Contrast(projection=0)),
        ("mask", lambda: Reconstruction(mask=1.0)),
        ("mask", lambda: Data2Vec(mask=0.0)),
        ("beta", lambda: Data2Vec(beta=-1.0)),
        ("temperature", lambda: SimCLR(temperature=-0.1)),
        ("covariance", lambda: VICReg(covariance=-1.0)),
        ("momentum", lambda: BYOL(momentum=1.1)),
        ("teacher_temperature", lambda: DINO(teacher_temperature=0.0)),
        ("prototypes", lambda: DINO(prototypes=1)),
        ("normalised_targets", lambda: Reconstruction(normalised_targets=1)),
        ("method", lambda: Experiment.from_json('{"kind": "Pretraining", "method": "contrast"}')),
        ("training", lambda: Experiment(name="a", training=Digits())),
    ],
)
def test_bad_parts_and_texts_are_named(field, make, complaint):
    with complaint(field):
        make()


def test_a_result_holds_what_is_needed_to_make_it_again(tiny, tmp_path):
    asked = experiment(tiny("contrast"))
    result = run(asked, out=tmp_path / "one.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["one.nc"]
    again = Trajectory.load(tmp_path / "one.nc")
    assert spec_of(again) == asked.training and again.dataset.identical(result.dataset)
    assert set(MEANINGS) | {"training_loss"} == set(again.dataset.data_vars)
    assert again["training_loss"].shape == (1, 5) and again["step"].values.tolist() == [5]
    assert again.dataset.attrs["seconds"] > 0 and "torch=" in again.dataset.attrs["versions"]
    assert by_depth(again, "attention_distance").shape == (2,) and by_depth(again, "lidar").shape == (3,)
    same_numbers(run(Experiment.from_json(again.dataset.attrs["experiment"])), again)


def test_an_interrupted_result_is_finished_and_its_checkpoint_removed(tiny, tmp_path, monkeypatch):
    asked, out = experiment(tiny()), tmp_path / "one.nc"
    taken, steps = torch.optim.AdamW.step, []

    def interrupted(self, *given):
        steps.append(None)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return taken(self, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        run(asked, out=out, runtime=ALWAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["one.nc.checkpoint"]
    resumed = run(asked, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["one.nc"]
    same_numbers(resumed, run(asked))


@pytest.mark.parametrize("damage", ["flipped", "another's"])
def test_a_result_that_cannot_be_believed(tiny, damage, tmp_path, complaint):
    asked = [experiment(tiny("untrained", seed=seed)) for seed in (3, 9)]
    store = ResultStore(tmp_path, workers=1)
    first, second = store.all(asked)
    path = store.path(asked[0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content if damage == "flipped" else store.path(asked[1]).read_bytes())
    remedy = "checksum" if damage == "flipped" else "another experiment"
    for anew, redraw in ((False, False), (True, True)):
        with complaint("path", remedy):
            replace(store, runtime=Runtime(anew=anew), redraw=redraw).all(asked)
    with pytest.warns(UserWarning, match="made anew"):
        again = replace(store, runtime=ANEW).all(asked)
    same_numbers(again[0], first)
    assert again[1].dataset.identical(second.dataset)


def test_results_of_other_kinds_are_told_apart(tiny, tmp_path, complaint):
    result = pretrain(tiny("untrained"))
    old = Trajectory(result.dataset.assign_attrs(schema="vitdyn practice 2"))
    old.save(tmp_path / "old.nc")
    with complaint("schema"):
        Trajectory.load(tmp_path / "old.nc")
    with complaint("trajectory", "must be the result of a Pretraining"):
        spec_of(Trajectory(result.dataset.assign_attrs(spec='{"training": {"kind": "Training"}}')))
    with complaint("variable"):
        by_depth(Trajectory(result.dataset.drop_vars("lidar")), "lidar")
    with complaint("name"):
        by_depth(result, "accuracy")


def test_a_result_is_written_whole_or_not_at_all(tiny, tmp_path, monkeypatch, complaint):
    asked, path = experiment(tiny("untrained")), tmp_path / "kept.nc"
    run(asked, out=path)
    kept = path.read_bytes()

    def fails(self, part):
        self.file.write(part[:100])
        raise OSError("disk full")

    with monkeypatch.context() as patch, complaint("out", "disk full"):
        patch.setattr(_files._Summed, "write", fails)
        run(asked, out=path)
    assert path.read_bytes() == kept and not list(tmp_path.glob(".*"))


def test_a_store_makes_what_is_missing_once(tiny, tmp_path, monkeypatch, complaint, capsys):
    asked = [experiment(each) for each in (tiny("untrained"), tiny(), tiny("untrained"))]
    empty = ResultStore(tmp_path / "none", redraw=True)
    with complaint("redraw", "run without --redraw first"):
        empty.all(asked)
    assert not (tmp_path / "none").exists()
    store = ResultStore(tmp_path, workers=1, runtime=Runtime(progress=True))
    first = store.all(asked)
    assert "2 trainings, about" in capsys.readouterr().out
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".nc", ".nc"]
    monkeypatch.setitem(side_by_side.RESUMED, Pretraining, lambda *_, **__: pytest.fail("is kept already"))
    second = store.all(asked)
    assert [spec_of(each) for each in second] == [each.training for each in asked]
    assert all(a.dataset.identical(b.dataset) for a, b in zip(first, second, strict=True))


def test_an_error_reaches_the_caller(tiny, monkeypatch, tmp_path):
    def fails(*_, **__):
        raise ArithmeticError("the loss is not finite")

    monkeypatch.setattr("vitdyn.vits.pretraining_loop.train", fails)
    with pytest.raises(ArithmeticError):
        ResultStore(tmp_path, workers=1).all([experiment(tiny()), experiment(tiny("untrained"))])
    assert not list(tmp_path.iterdir())


def test_the_cost_is_said_beforehand(tiny):
    assert 0 < estimate_seconds([tiny()]) < estimate_seconds([tiny(), tiny("contrast", steps=40_000)])
    one, two = (estimate_seconds([tiny(steps=10**6)] * 2, workers=workers) for workers in (1, 2))
    assert two == pytest.approx(one / 2, rel=0.01)
    by_method = [
        estimate_seconds([tiny(method, steps=1000)]) for method in ("supervised", "contrast", "mixture")
    ]
    assert by_method == sorted(by_method)
