"""Runs: the same bits again, after an interrupt and in another process; files whole or not at all. Exact."""

import io
import json
import signal
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from tqdm import tqdm

from vitdyn import _files
from vitdyn._signals import interrupted_by_sigterm
from vitdyn.dynamics import CheckpointError
from vitdyn.dynamics.checkpoint import write_checkpoint
from vitdyn.dynamics.resources import machine_name
from vitdyn.practice import (
    MEANINGS,
    Analysis,
    Architecture,
    Digits,
    Photographs,
    PracticeStore,
    Pretraining,
    Record,
    estimate_seconds,
    run,
)
from vitdyn.practice import store as store_module
from vitdyn.practice.training import train


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


@pytest.mark.parametrize("method", ["reconstruction", "contrast", "mixture", "supervised"])
def test_an_interrupted_run_resumes_to_the_same_bits(tiny, method, tmp_path):
    spec, path = tiny(method), tmp_path / "run.checkpoint"
    torch.manual_seed(1)
    whole = train(spec)
    with pytest.raises(KeyboardInterrupt):
        train(spec, checkpoint=path, checkpoint_seconds=0, advance=Interrupt(3))
    assert path.is_file()
    steps = []
    torch.manual_seed(2)
    resumed = train(spec, checkpoint=path, checkpoint_seconds=0, advance=steps.append)
    assert steps[0] == 4 and sum(steps) == 5  # the step that was done when the interrupt came is kept
    assert equal(whole, resumed)


def test_a_checkpoint_of_another_run_is_refused(tiny, tmp_path, complaint):
    path = tmp_path / "run.checkpoint"
    train(tiny(), checkpoint=path, checkpoint_seconds=0)
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
    "no optimiser": lambda state: state | {"optimiser": None},
    "another rate of decay": lambda state: (
        state
        | {
            "optimiser": state["optimiser"]
            | {
                "param_groups": [
                    group | {"weight_decay": 9.0} for group in state["optimiser"]["param_groups"]
                ]
            }
        }
    ),
    "moments of other shapes": lambda state: (
        state
        | {
            "optimiser": state["optimiser"]
            | {
                "state": {
                    key: moments | {"exp_avg": torch.zeros(2, 2, 2, 2, 2)}
                    for key, moments in state["optimiser"]["state"].items()
                }
            }
        }
    ),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_checkpoint_that_this_run_cannot_have_written(tiny, name, tmp_path, monkeypatch):
    """One line, before a step is taken; on request the run starts anew, to the bits of one that never stopped."""
    spec, path = tiny(), tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(spec, checkpoint=path, checkpoint_seconds=0, advance=Interrupt(3))
    contents = torch.load(path, weights_only=True)
    write_checkpoint(path, contents["spec"], CRAFTED[name](contents["state"]))
    with pytest.raises(CheckpointError, match=r"\A[^\n]*run.checkpoint[^\n]*--anew[^\n]*\Z"):
        train(spec, checkpoint=path, advance=Interrupt(0))
    if name in ("a list", "moments of other shapes"):
        assert equal(train(spec, checkpoint=path, anew=True), train(spec))


def test_a_run_that_goes_on_on_another_machine_says_so(tiny, tmp_path, monkeypatch):
    out, here = tmp_path / "one.nc", machine_name()
    assert run(tiny()).dataset.attrs["machine"] == here
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), out=out, checkpoint_seconds=0, advance=Interrupt(2))
    monkeypatch.setattr("vitdyn.practice.training.machine_of", lambda device: "another processor")
    assert run(tiny(), out=out).dataset.attrs["machine"] == f"{here}; another processor"


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
        train(spec, checkpoint=path, checkpoint_seconds=1e6)
    signal.signal(signal.SIGINT, before)
    assert torch.load(path, weights_only=True)["state"]["step"] == 3
    assert equal(train(spec, checkpoint=path), whole)


@pytest.mark.parametrize("damage", ["flipped", "another's"])
def test_a_record_that_cannot_be_believed(tiny, damage, tmp_path, complaint):
    specs, store = [tiny("untrained"), tiny("untrained", seed=9)], PracticeStore(folder=tmp_path, workers=1)
    first, second = store(specs)
    path = store.path(specs[0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content if damage == "flipped" else store.path(specs[1]).read_bytes())
    remedy = "checksum" if damage == "flipped" else "another run"
    for anew, redraw in ((False, False), (True, True)):
        with complaint("path", remedy):
            replace(store, anew=anew, redraw=redraw)(specs)
    with pytest.warns(UserWarning, match="made anew"):
        again = replace(store, anew=True)(specs)
    for name in first.dataset.data_vars:
        np.testing.assert_array_equal(again[0].dataset[name], first.dataset[name])
    assert again[1].dataset.identical(second.dataset)


def test_seeds_and_methods_differ_and_losses_are_recorded(tiny):
    first = train(tiny())
    assert first.losses.shape == (5,) and bool(first.losses.isfinite().all())
    assert not torch.equal(first.losses, train(tiny(seed=4)).losses)
    assert train(tiny("untrained")).losses.shape == (0,)


def test_training_lowers_the_loss(tiny):
    losses = train(tiny(steps=60, batch=32)).losses
    assert float(losses[-5:].mean()) < 0.5 * float(losses[0])


def test_a_loss_that_is_not_finite_ends_the_run(tiny):
    with pytest.raises(ArithmeticError, match="learning_rate"):
        train(tiny(learning_rate=10.0, weight_decay=1.0, steps=40, warmup=0.0))


def test_the_rate_rises_and_falls_and_momentum_ends_at_1():
    spec = Pretraining(method="contrast", steps=100, warmup=0.1, learning_rate=1.0, momentum=0.9)
    rates = [spec.rate(step) for step in range(100)]
    assert np.argmax(rates) == 10 and rates[10] == 1.0
    assert rates[4] == pytest.approx(5 / 11) and rates[55] == pytest.approx(0.5) and rates[99] < 1e-3
    assert [spec.momentum_at(step) for step in (0, 50, 100)] == pytest.approx([0.9, 0.95, 1.0])


def test_a_specification_goes_through_json(tiny):
    for images in (Digits(test=99), Photographs(pictures=("coins", "grass"))):
        spec = tiny("mixture", images=images, architecture=Architecture(patch=2, layers=2, width=16))
        again = Pretraining.from_json(spec.to_json())
        assert again == spec and again.key == spec.key and again.file_name == spec.file_name
    assert len({tiny().key, tiny(seed=9).key, tiny("contrast").key, tiny(analysis=Analysis()).key}) == 4


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("method", {"method": "moco"}),
        ("readout", {"readout": "max"}),
        ("images", {"images": "digits"}),
        ("architecture", {"architecture": None}),
        ("augmentation", {"augmentation": {}}),
        ("analysis", {"analysis": 3}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 2.5}),
        ("steps", {"method": "untrained"}),
        ("batch", {"batch": 1}),
        ("learning_rate", {"learning_rate": -1.0}),
        ("weight", {"weight": 1.5}),
        ("momentum", {"momentum": float("nan")}),
        ("temperature", {"temperature": 0.0}),
        ("mask", {"mask": 1.0}),
        ("mask", {"mask": 0.99}),
        ("normalised_targets", {"normalised_targets": 1}),
        ("patch", {"architecture": Architecture(patch=3)}),
        ("patch", {"architecture": Architecture(patch=8)}),
    ],
)
def test_bad_specifications_are_named(tiny, field, changes, complaint):
    with complaint(field):
        replace(tiny(), **changes)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("width", lambda: Architecture(width=18)),
        ("width", lambda: Architecture(width=32, heads=3)),
        ("decoder_width", lambda: Architecture(decoder_width=6)),
        ("layers", lambda: Architecture(layers=0)),
        ("views", lambda: Analysis(views=9)),
        ("penalty", lambda: Analysis(penalty=-1.0)),
        ("pretraining", lambda: Pretraining.from_json("{")),
        ("pretraining", lambda: Pretraining.from_json('{"kind": "Digits"}')),
        ("kind", lambda: Pretraining.from_json('{"kind": "Vit"}')),
    ],
)
def test_bad_parts_and_texts_are_named(field, make, complaint):
    with complaint(field):
        make()


def test_a_record_holds_what_is_needed_to_make_it_again(tiny, tmp_path):
    spec = tiny("contrast")
    record = run(spec, out=tmp_path / "one.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["one.nc"]
    again = Record.load(tmp_path / "one.nc")
    assert again.spec == spec and again.dataset.identical(record.dataset)
    assert set(MEANINGS) | {"loss"} == set(again.dataset.data_vars)
    assert again.dataset.attrs["seconds"] > 0 and "transformers=" in again.dataset.attrs["versions"]
    assert again.by_depth("attention_distance").shape == (2,) and again.by_depth("lidar").shape == (3,)
    repeated = run(Pretraining.from_json(json.loads(json.dumps(again.dataset.attrs["spec"]))))
    for name in again.dataset.data_vars:
        np.testing.assert_array_equal(repeated.dataset[name], again.dataset[name])


def test_a_result_is_written_whole_or_not_at_all(tiny, tmp_path, monkeypatch, complaint):
    record = run(tiny("untrained"))
    path = record.save(tmp_path / "kept.nc")
    kept = path.read_bytes()

    def fails(self, part):
        self.file.write(part[:100])
        raise OSError("disk full")

    with monkeypatch.context() as patch, complaint("out", "disk full"):
        patch.setattr(_files._Summed, "write", fails)
        record.save(path)
    assert path.read_bytes() == kept and [each.name for each in tmp_path.iterdir()] == ["kept.nc"]
    path.write_bytes(kept[: len(kept) // 2])
    with complaint("path", "delete it and run again"):
        Record.load(path)
    with complaint("path"):
        Record.load(tmp_path / "none.nc")
    Record(record.dataset.assign_attrs(schema="other")).save(tmp_path / "other.nc")
    with complaint("schema"):
        Record.load(tmp_path / "other.nc")
    Record(record.dataset.drop_vars("lidar")).save(tmp_path / "less.nc")
    with complaint("path", "holds no record: lidar missing"):
        Record.load(tmp_path / "less.nc")
    damaged = bytearray(kept)
    damaged[len(kept) // 3] ^= 16
    path.write_bytes(damaged)
    with complaint("path", "its contents do not fit its checksum"):
        Record.load(path)
    with complaint("name"):
        record.by_depth("accuracy")


def test_an_interrupted_result_is_finished_and_its_checkpoint_removed(tiny, tmp_path):
    out = tmp_path / "one.nc"
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), out=out, checkpoint_seconds=0, advance=Interrupt(2))
    assert [path.name for path in tmp_path.iterdir()] == ["one.nc.checkpoint"]
    resumed = run(tiny(), out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["one.nc"]
    whole = run(tiny())
    for name in whole.dataset.data_vars:
        np.testing.assert_array_equal(resumed.dataset[name], whole.dataset[name])


def test_a_store_makes_what_is_missing_once(tiny, tmp_path, monkeypatch, complaint, capsys):
    specs = [tiny("untrained"), tiny(), tiny("untrained")]
    empty = PracticeStore(folder=tmp_path / "none", redraw=True)
    with complaint("redraw", "run without --redraw first"):
        empty(specs)
    assert not (tmp_path / "none").exists()
    store = PracticeStore(folder=tmp_path, workers=1, progress=True)
    assert len(store.missing(specs)) == 2
    first = store(specs)
    assert "2 runs, about" in capsys.readouterr().out
    monkeypatch.setattr(store_module, "run", lambda *_, **__: pytest.fail("is kept already"))
    second = store(specs)
    assert [each.spec for each in second] == specs
    assert all(a.dataset.identical(b.dataset) for a, b in zip(first, second, strict=True))
    with complaint("workers"):
        PracticeStore(folder=tmp_path, workers=0)([tiny(seed=8)])


def test_another_process_makes_the_same_bits_and_counts_its_steps(tiny, tmp_path):
    specs, store = [tiny("untrained"), tiny()], PracticeStore(folder=tmp_path, device="cpu")
    threads = torch.get_num_threads()
    with tqdm(total=5, file=io.StringIO()) as bar:
        store._make_side_by_side(specs, 1, bar)  # one process: to start a second takes as long again
        assert bar.n == 5
    for spec, found in zip(specs, store(specs), strict=True):
        for name, values in run(spec, device="cpu").dataset.data_vars.items():
            np.testing.assert_array_equal(found.dataset[name], values)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".nc", ".nc"]
    assert torch.get_num_threads() == threads


def test_a_process_ends_its_run_when_the_caller_says_so(tiny, tmp_path, monkeypatch):
    context = get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    monkeypatch.setattr(store_module, "_steps_done", counter)
    monkeypatch.setattr(store_module, "_stop", stop)
    store_module._run_counted(tiny(), tmp_path / "one.nc", "cpu")
    assert counter.value == 5
    stop.set()
    with pytest.raises(store_module.StoppedError):
        store_module._run_counted(tiny(), tmp_path / "two.nc", "cpu")
    assert counter.value == 5 and [path.name for path in tmp_path.iterdir()] == ["one.nc"]


def test_an_error_in_a_process_reaches_the_caller(tiny, monkeypatch, tmp_path):
    def fails(*_, **__):
        raise ArithmeticError("the loss is not finite")

    monkeypatch.setattr(store_module, "train", fails)
    with pytest.raises(ArithmeticError):
        PracticeStore(folder=tmp_path, workers=1)([tiny()])
    assert not list(tmp_path.iterdir())


def test_the_cost_is_said_beforehand(tiny):
    assert 0 < estimate_seconds([tiny()]) < estimate_seconds([tiny(), tiny("contrast", steps=40_000)])
