import json
import operator
import pickle
import shutil
from collections import deque, namedtuple
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pytest
import torch
import xarray

from vitdyn.data import AreaSizes, Beta, Custom, PatchGenerator, PatchLayout
from vitdyn.dynamics import (
    Adam,
    CheckpointError,
    DivergenceError,
    GradientDescent,
    Runtime,
    Schedule,
    Training,
    simulate,
    simulate_grid,
)
from vitdyn.dynamics.checkpoint import Checkpointer
from vitdyn.dynamics.steppers import EagerStepper
from vitdyn.experiments import Experiment, ResultStore, run
from vitdyn.experiments.cost import estimate_cost
from vitdyn.experiments.identity import key_or_reason
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables.observable import OBSERVABLES, Observable
from vitdyn.reduced import MeanField, StalledFlowError, integrate_flows
from vitdyn.trajectory import Trajectory

ANEW = Runtime(anew=True)


@pytest.fixture
def experiment():
    layout = PatchLayout.from_sizes([[7, 3, 1], [5, 4, 2]], seed=2)
    return Experiment(
        name="small",
        training=Training(
            generator=PatchGenerator(layout=layout, latents=Beta(low=0.5, high=2.0)),
            objective=Contrastive(temperature=0.5, views="complementary"),
            optimizer=Adam(learning_rate=0.1),
            steps=6,
            batch_size=8,
            seeds=(3, 5),
            schedule=Schedule(spacing="explicit", steps=(2,)),
        ),
    )


def test_json_goes_both_ways(experiment):
    again = Experiment.from_json(experiment.to_json())
    assert again == experiment
    assert again.key == experiment.key


def test_pickle_goes_both_ways(experiment):
    """To a process on another machine; vitdyn's own observables go by name, whatever function computes them."""
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    for each in OBSERVABLES.own.values():
        assert pickle.loads(pickle.dumps(each)) is each
    own = Observable(name="own", compute=operator.attrgetter("loss"))
    assert pickle.loads(pickle.dumps(own)) is not own


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "must be JSON"),
        ("3", "must describe an Experiment"),
        ('{"kind": "Magic"}', "must be one of"),
        ('{"kind": "Experiment", "name": "a"}', "lacks a field"),
        ('{"kind": "Experiment", "name": "a b", "training": 1}', "letters, digits"),
        ('{"kind": "Experiment", "name": "a", "training": 1}', "must be a Training"),
    ],
)
def test_other_json_is_refused_on_one_line(text, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        Experiment.from_json(text)
    assert "\n" not in str(caught.value)


def test_key_depends_on_the_numbers_and_not_on_the_name(experiment):
    renamed = Experiment(name="other", training=experiment.training)
    assert renamed.key == experiment.key
    changed = json.loads(experiment.to_json())
    changed["training"]["steps"] = 7
    assert Experiment.from_json(json.dumps(changed)).key != experiment.key


def test_a_result_describes_itself(experiment, tmp_path):
    path = tmp_path / "deep" / "result.nc"
    trajectory = run(experiment, out=path)
    with xarray.open_dataset(path, engine="netcdf4") as stored:
        assert Experiment.from_json(stored.attrs["experiment"]) == experiment
        assert stored["step"].values.tolist() == [0, 2, 6]
        assert stored["seed"].values.tolist() == [3, 5]
        assert stored.sizes["frame"] == trajectory.dataset.sizes["frame"]
    assert [file.name for file in path.parent.iterdir()] == ["result.nc"]


@pytest.fixture
def stop_saving(monkeypatch):
    """Raise an interrupt instead of the n-th saving of a result, and from then on at every step of training."""

    def arrange(count):
        save, done = Trajectory.save, []

        def saving(self, path):
            done.append(path)
            if len(done) == count:
                monkeypatch.setattr(EagerStepper, "advance", lambda *_: pytest.fail("trained again"))
                raise KeyboardInterrupt
            return save(self, path)

        monkeypatch.setattr(Trajectory, "save", saving)

    return arrange


def test_a_run_that_is_interrupted_while_it_is_saved(experiment, tmp_path, stop_saving):
    whole = run(experiment).dataset.drop_attrs()
    path = tmp_path / "result.nc"
    stop_saving(1)
    with pytest.raises(KeyboardInterrupt):
        run(experiment, out=path)
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc.checkpoint"]
    assert run(experiment, out=path).dataset.drop_attrs().identical(whole)
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]


@pytest.fixture
def several(experiment):
    """Three experiments that train in one batch."""
    return [
        replace(experiment, training=replace(experiment.training, optimizer=Adam(learning_rate=rate)))
        for rate in (0.05, 0.1, 0.2)
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_grid_that_is_interrupted_while_it_is_saved(count, several, tmp_path, stop_saving):
    whole = [run(each).dataset.drop_attrs() for each in several]
    store = ResultStore(tmp_path)
    stop_saving(count)
    with pytest.raises(KeyboardInterrupt):
        store.all(several)
    left = sorted(file.suffix for file in tmp_path.iterdir())
    assert left == [".checkpoint"] * (4 - count) + [".nc"] * (count - 1)
    for found, each in zip(store.all(several), whole, strict=True):
        assert found.dataset.drop_attrs().identical(each)
    assert sorted(tmp_path.iterdir()) == sorted(store.path(each) for each in several)


def test_store_runs_once_and_redraw_never_runs(experiment, tmp_path):
    with pytest.raises(ValueError, match="without --redraw"):
        ResultStore(tmp_path, redraw=True)(experiment)
    store = ResultStore(tmp_path)
    first = store(experiment)
    stamp = store.path(experiment).stat().st_mtime_ns
    again = ResultStore(tmp_path, redraw=True)(experiment)
    assert store.path(experiment).stat().st_mtime_ns == stamp
    xarray.testing.assert_identical(first.dataset, again.dataset)


def test_cost_is_a_positive_number_that_grows_with_the_steps(experiment):
    from dataclasses import replace

    longer = replace(experiment, training=replace(experiment.training, steps=60000))
    short, long = (estimate_cost(each, device="cpu") for each in (experiment, longer))
    assert 0 < short.seconds < long.seconds
    assert short.mebibytes == long.mebibytes > 0


def test_a_store_computes_the_key_of_a_result_once(experiment, tmp_path, monkeypatch):
    keys = []
    counted = lambda training: keys.append(key_or_reason(training)) or keys[-1]  # noqa: E731
    monkeypatch.setattr("vitdyn.experiments.store.key_or_reason", counted)
    store = ResultStore(tmp_path)
    store(experiment)
    store(experiment)
    assert [key for key, _ in keys] == [experiment.key] * 2


def test_a_store_simulates_what_is_missing_as_one_grid(experiment, tmp_path, monkeypatch):
    """The same files as one by one, to the bit; what is there is not run again."""
    several = [
        replace(experiment, training=replace(experiment.training, optimizer=Adam(learning_rate=rate)))
        for rate in (0.05, 0.1, 0.2)
    ]
    alone = ResultStore(tmp_path / "alone")
    expected = [alone(each).dataset.drop_attrs() for each in several]
    grids = []

    def counted(trainings, **options):
        grids.append(len(trainings))
        return simulate_grid(trainings, **options)

    monkeypatch.setattr("vitdyn.experiments.store.simulate_grid", counted)
    store = ResultStore(tmp_path / "together")
    store(several[1])
    found = store.all([*several, several[0]])
    assert grids == [2]
    for each, trajectory in zip([*expected, expected[0]], found, strict=True):
        assert trajectory.dataset.drop_attrs().identical(each)
    assert [Experiment.from_json(each.dataset.attrs["experiment"]) for each in found[:3]] == several
    for name, trajectory in store.named({"first": several[0], 3: several[2]}).items():
        assert trajectory.dataset.identical(found[{"first": 0, 3: 2}[name]].dataset)
    assert grids == [2] and not list((tmp_path / "together").glob("*.checkpoint"))
    with pytest.raises(ValueError, match="redraw"):
        ResultStore(tmp_path / "none", redraw=True).all(several)


def distribution(scale):
    """Make a distribution of the user's: every call names the same function in the same place."""
    return Custom(draw=lambda generator, shape: 1.0 + scale * generator.random(shape), low=1.0, high=3.0)


def with_latents(experiment, distribution):
    generator = replace(experiment.training.generator, latents=distribution)
    return replace(experiment, training=replace(experiment.training, generator=generator))


def signed(sign):
    class Mine(MaskedReconstruction):
        def loss(self, forward):
            return sign * super().loss(forward)

    return Mine()


def with_objective(experiment, objective):
    return replace(
        experiment,
        training=replace(experiment.training, objective=objective, optimizer=Adam(learning_rate=0.1)),
    )


def test_users_code_is_part_of_the_key(experiment, tmp_path):
    """One factory, two distributions; one class, a loss and its negative: the store returned the first for both."""
    store = ResultStore(tmp_path)
    pairs = [
        [with_latents(experiment, distribution(scale)) for scale in (0.5, 1.5)],
        [with_objective(experiment, signed(sign)) for sign in (1, -1)],
    ]
    for first, second in pairs:
        assert first.key != second.key
        kept = [store(each).dataset.drop_attrs() for each in (first, second)]
        assert not kept[0].equals(kept[1])
        for each, found in zip((first, second), kept, strict=True):
            assert run(each).dataset.drop_attrs().identical(found)
    assert with_latents(experiment, distribution(0.5)).key == pairs[0][0].key


def test_a_checkpoint_is_of_the_code_that_wrote_it(experiment, tmp_path, monkeypatch):
    path = tmp_path / "run.checkpoint"
    first, second = (with_latents(experiment, distribution(scale)).training for scale in (0.5, 1.5))
    simulate(first, checkpoint=path, runtime=Runtime(keep_checkpoint=True))
    with pytest.raises(ValueError, match="another specification"):
        simulate(second, checkpoint=path)


def test_what_has_no_key_is_run_and_not_kept(experiment, tmp_path, complaint):
    rng = np.random.default_rng(0)
    distribution = Custom(draw=lambda generator, shape: 1.0 + rng.random(shape), low=1.0, high=2.0)
    loose = with_latents(experiment, distribution)
    with complaint("experiment", "numpy.random"):
        _ = loose.key
    store = ResultStore(tmp_path)
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"is run, and its result is not kept: .*numpy\.random"):
            (found,) = store.all([loose])
        assert found.dataset.sizes["seed"] == 2
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="not resumed"):
        run(loose, out=tmp_path / "once.nc")
    assert [file.name for file in tmp_path.iterdir()] == ["once.nc"]
    with complaint("checkpoint", "numpy.random"):
        simulate(loose.training, checkpoint=tmp_path / "state")


def test_what_a_kill_between_saving_and_clearing_leaves_is_cleared(several, tmp_path):
    """A checkpoint beside its result has nothing left to say."""
    store = ResultStore(tmp_path)
    store.all(several)
    left = [path.with_name(path.name + ".checkpoint") for path in map(store.path, several)]
    for path in left:
        path.write_bytes(b"whatever")
    store(several[0])
    store.all(several[1:])
    assert not any(path.exists() for path in left)


def test_experiments_added_to_an_interrupted_grid(several, experiment, tmp_path, monkeypatch):
    """Those that were interrupted go on, whatever is asked for with them; all end in their own bits."""
    more = [
        *several[::-1],
        replace(experiment, name="more", training=replace(experiment.training, batch_size=7)),
    ]
    whole, store, begun = [run(each).dataset.drop_attrs() for each in more], ResultStore(tmp_path), []
    taken = EagerStepper.advance

    def counted(steps, count):
        if len(begun) == 4:
            begun.append(0)
            raise KeyboardInterrupt
        begun.append(count * len(steps.group.rows.rows))
        taken(steps, count)

    monkeypatch.setattr(EagerStepper, "advance", counted)
    monkeypatch.setattr(Checkpointer, "should_save", lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        store.all(several)
    for found, expected in zip(store.all(more), whole, strict=True):
        assert found.dataset.drop_attrs().identical(expected)
    assert sum(begun) == 6 * 2 * 4  # steps, seeds, cells: none is done twice
    assert sorted(tmp_path.iterdir()) == sorted(store.path(each) for each in more)


def diverging(experiment, name):
    objective, optimizer = Contrastive(weight_decay=1e6), GradientDescent(learning_rate=1e12)
    training = replace(experiment.training, objective=objective, optimizer=optimizer, precision="float32")
    return replace(experiment, name=name, training=training)


def test_a_diverging_experiment_loses_no_other(several, experiment, tmp_path):
    """The others are saved, and found again; the error names the experiment."""
    wild, store = diverging(experiment, "wild"), ResultStore(tmp_path)
    with pytest.raises(DivergenceError, match=r"\Astep \d, wild, seed 3: the parameters") as caught:
        store.all([several[0], wild, *several[1:]])
    assert [found is None for found in caught.value.trajectories] == [False, True, False, False]
    for each in several:
        found = Trajectory.load(store.path(each)).dataset
        assert found.drop_attrs().identical(run(each).dataset.drop_attrs())
    assert not store.path(wild).exists()
    again = ResultStore(tmp_path, redraw=True).all(several)
    assert len(again) == 3


def test_flows_of_one_call_are_followed_together_and_one_that_stalls_costs_no_other_its_result(
    tmp_path, monkeypatch
):
    """To the bits of runs of their own. A descent, whose bits depend on its company, goes alone."""
    common = MeanField(sizes=AreaSizes.from_exponents(1e3, 0.9, 0.4), nodes=4, frames=5, until=0.4)
    stalled = replace(common, objective=Contrastive(weight_decay=1.0), clusters=8)
    specs = [common, stalled, replace(common, until=0.6), replace(common, learning_rate=1.0, steps=3)]
    several = [Experiment(name=f"flow-{index}", training=spec) for index, spec in enumerate(specs)]
    store, together = ResultStore(tmp_path), []

    def counted(flows):
        together.append(flows)
        return integrate_flows(flows)

    monkeypatch.setattr("vitdyn.experiments.store.integrate_flows", counted)
    with pytest.raises(StalledFlowError, match="stalled"):
        store.all(several)
    assert together == [specs[:3]]
    kept = [several[0], several[2]]
    for each, found in zip(kept, ResultStore(tmp_path, redraw=True).all(kept), strict=True):
        assert found.dataset.equals(run(each).dataset)
        assert found.dataset.attrs["experiment"] == each.to_json()
    assert store(several[3]).dataset.equals(run(several[3]).dataset)


def test_a_check_keeps_the_good_cells_of_a_grid(several, experiment, tmp_path):
    """A claim over runs of which one diverges is inconclusive; what was simulated is kept for others."""
    store = ResultStore(tmp_path)
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="not finite"):
            store.named(dict(enumerate([*several, diverging(experiment, "wild")])))
    assert len(list(tmp_path.glob("*.nc"))) == 3


@pytest.mark.parametrize("damage", ["flipped", "cut", "another's", "empty"])
def test_a_result_that_cannot_be_believed_is_made_again_on_request(
    damage, several, tmp_path, recwarn, complaint
):
    store = ResultStore(tmp_path)
    whole, path = store.all(several)[1].dataset.drop_attrs(), store.path(several[1])
    content = bytearray(path.read_bytes())
    content[900] ^= 4
    path.write_bytes({"flipped": content, "cut": content[:900], "empty": b"", "another's": b""}[damage])
    if damage == "another's":
        shutil.copy(store.path(several[0]), path)
    for ask in (lambda: store(several[1]), lambda: store.all(several)):
        with complaint("path", "delete it and run again, or start anew (anew=True, --anew)"):
            ask()
    with complaint("path"):
        ResultStore(tmp_path, redraw=True, runtime=ANEW)(several[1])
    found = ResultStore(tmp_path, runtime=ANEW).all(several)[1]
    assert found.dataset.drop_attrs().identical(whole)
    assert any("made anew" in str(each.message) for each in recwarn)
    assert store(several[1]).dataset.identical(found.dataset)


def test_a_checkpoint_that_cannot_be_believed_is_left_on_request(experiment, tmp_path):
    path = tmp_path / "result.nc"
    path.with_name("result.nc.checkpoint").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="--anew"):
        run(experiment, out=path)
    run(experiment, out=path, runtime=ANEW)
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]


def test_results_without_final_states_are_small(experiment, tmp_path):
    """The frames are the same."""
    layout = PatchLayout.from_sizes([[80, 120], [100, 100]])
    training = replace(
        experiment.training, generator=PatchGenerator(layout=layout), steps=2, schedule=Schedule()
    )
    large = replace(experiment, training=training)
    small = ResultStore(tmp_path / "b", runtime=Runtime(keep_final_state=False))
    whole, cut = ResultStore(tmp_path / "a")(large), small(large)
    extra = [name for name in whole.dataset if str(name).startswith("final_")]
    assert extra and cut.dataset.drop_attrs().identical(whole.dataset.drop_attrs().drop_vars(extra))
    sizes = [next((tmp_path / name).iterdir()).stat().st_size for name in "ab"]
    assert sizes[0] > 1.5 * sizes[1]
    assert not [name for name in small.all([large, experiment])[1].dataset if str(name).startswith("final_")]


def test_a_folder_in_the_place_of_a_result_is_refused_before_any_work(
    several, tmp_path, complaint, monkeypatch
):
    monkeypatch.setattr(EagerStepper, "advance", lambda *_: pytest.fail("trained"))
    store = ResultStore(tmp_path)
    store.path(several[1]).mkdir(parents=True)
    for ask in (lambda: store(several[1]), lambda: store.all(several), lambda: run(several[0], out=tmp_path)):
        with complaint("out", "is a folder"):
            ask()


@pytest.mark.parametrize("ask", ["run", "store", "all"])
def test_a_link_to_nothing_is_not_written_over_unsaid(ask, several, tmp_path, complaint, monkeypatch):
    store, gone = ResultStore(tmp_path), tmp_path / "gone" / "result.nc"
    place = store.path(several[0])
    place.symlink_to(gone)
    monkeypatch.setattr(EagerStepper, "advance", lambda *_: pytest.fail("worked before it was refused"))
    asks = {
        "run": lambda: run(several[0], out=place),
        "store": lambda: store(several[0]),
        "all": lambda: store.all(several),
    }
    with complaint("out", "is a link to a file that is not there: remove it, or name another"):
        asks[ask]()
    assert place.readlink() == gone
    assert not gone.exists()


class Weighted(MaskedReconstruction):
    """Holds what no JSON holds."""

    def __init__(self, weight):
        super().__init__()
        vars(self)["weight"] = weight


@dataclass(frozen=True, kw_only=True, eq=False)
class Field(MaskedReconstruction):
    weight: object = None


VALUES = {
    "arrays": (np.ones(1), np.full(1, 100.0)),
    "tensors": (torch.ones(1), torch.full((1,), 100.0)),
    "bytes": (b"1", b"2"),
    "sets": ({1, 2}, {1, 3}),
    "complex": (1j, 2j),
    "decimals": (Decimal("1"), Decimal("2")),
    "queues": (deque([1]), deque([2])),
    "lists of arrays": ([np.ones(1)], [np.zeros(1)]),
    "dicts of arrays": ({"a": np.ones(1)}, {"a": np.zeros(1)}),
    "kinds of keys": ({1: 2}, {"1": 2}),
    "named tuples": (namedtuple("A", "x")(1), namedtuple("B", "x")(1)),
}


@pytest.mark.parametrize("kind", [Weighted, lambda value: Field(weight=value)], ids=["attribute", "field"])
@pytest.mark.parametrize("name", VALUES)
def test_whatever_an_objective_holds_is_part_of_the_key(name, kind, experiment):
    first, again, second = (
        with_objective(experiment, kind(value)).key for value in (VALUES[name][0], *VALUES[name])
    )
    assert first == again != second
