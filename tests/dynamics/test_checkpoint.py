"""Runs that are stopped, killed or confused, and go on: always to the same bits (exact)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from vitdyn._files import write_sealed
from vitdyn._signals import Terminated, interrupted_by_sigterm
from vitdyn.dynamics import Adam, CheckpointError, GradientDescent, Momentum, Runtime, simulate
from vitdyn.dynamics.checkpoint import Checkpointer, read_checkpoint, write_checkpoint
from vitdyn.dynamics.resources import machine_name
from vitdyn.kernels import Correlations
from vitdyn.kernels.plan import backend_name
from vitdyn.models import Transformer
from vitdyn.trajectory import Trajectory

CPU = torch.device("cpu")
EVERY_STEP, NEVER = Runtime(checkpoint_seconds=0), Runtime(checkpoint_seconds=1e6)
SPLIT = Runtime(memory_limit_mib=1e-6)
SPLIT_EVERY_STEP = Runtime(memory_limit_mib=1e-6, checkpoint_seconds=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "run.pt"


def stored(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("count", [1, 4, 9])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "cl", "optimizer": Adam(learning_rate=0.1)},
        {"optimizer": Momentum(learning_rate=0.5), "dataset_size": 8, "precision": "float32"},
        {"objective": "cl", "content_queries": True},
        {
            "model": Transformer(layers=2, heads=2, residual=True, initial_scale=0.1),
            "optimizer": Adam(learning_rate=0.1),
        },
    ],
    ids=["mae", "cl-adam", "momentum-data-set", "content", "transformer"],
)
def test_k_and_m_steps_equal_k_plus_m(count, changes, path, make_training, identical, stop_after):
    training = make_training(**changes)
    whole = simulate(training)
    done = stop_after(count, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate(training, checkpoint=path, runtime=EVERY_STEP)
    assert path.is_file() == (count > 1)
    if count > 1:
        assert stored(path)["state"][0]["step"] == count - 1
    resumed = simulate(training, checkpoint=path)
    assert len(done) == count + training.steps - (count - 1)
    identical(resumed, whole)
    assert not path.exists()


def test_a_finished_run_leaves_nothing_behind(path, make_training, identical):
    training = make_training()
    identical(simulate(training, checkpoint=path, runtime=EVERY_STEP), simulate(training))
    assert list(path.parent.iterdir()) == []


def test_stopped_twice_with_groups_of_seeds(path, make_training, identical, stop_after):
    """Finished groups are not trained again; a waiting one may do a single step before it is stopped too."""
    training = make_training(seeds=(4, 1, 6))
    whole = simulate(training, runtime=SPLIT)
    for count in (5, 12):
        done = stop_after(count, RuntimeError("stopped here"))
        with pytest.raises(RuntimeError, match="stopped here"):
            simulate(training, checkpoint=path, runtime=SPLIT_EVERY_STEP)
        assert count <= len(done) <= count + 1
    steps = {index: state["step"] for index, state in stored(path)["state"].items()}
    assert steps[0] == 12
    assert steps[1] in (3, 4)
    identical(simulate(training, checkpoint=path, runtime=SPLIT), whole)


@pytest.mark.parametrize(
    ("number", "slow"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)]
)
def test_an_interrupt_is_written_down(path, make_training, identical, stop_after, number, slow, monkeypatch):
    """A real signal to the main thread, between two steps and long before a checkpoint is due.

    Also where starting a thread takes longer than the first steps.
    """
    training = make_training(steps=400)
    if slow:
        start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", lambda thread: (start(thread), time.sleep(0.2)))

    def interrupt():
        signal.pthread_kill(threading.main_thread().ident, number)
        time.sleep(0.1)

    stop_after(7, interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt) as stopped, interrupted_by_sigterm():
            simulate(training, checkpoint=path, runtime=NEVER)
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(stopped.value, Terminated) == (number == signal.SIGTERM)
    assert 6 <= stored(path)["state"][0]["step"] < 400
    identical(simulate(training, checkpoint=path), simulate(training))


def test_what_was_deposited_is_not_trained_on(path, make_training, stop_after):
    """A group that goes on from a checkpoint leaves the stored state as it was, for others to write again."""
    training = make_training()
    stop_after(4, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate(training, checkpoint=path, runtime=EVERY_STEP)
    before = stored(path)["state"][0]["correlations"]
    kept = {}

    class Watching(Checkpointer):
        def start(self, rows, states):
            super().start(rows, states)
            kept.update(states[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["vitdyn.dynamics.simulate"], "Checkpointer", Watching)
        simulate(training, checkpoint=path, runtime=NEVER)
    assert (kept["step"], len(kept["frames"])) == (3, 1)
    assert all(torch.equal(kept["correlations"][name], block) for name, block in before.items())


KILLED = """
import json, os, random, signal, sys, time
from dataclasses import replace
import torch, xarray, netCDF4
torch.set_num_threads(1)
from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Runtime, Schedule, Training, simulate
from vitdyn.objectives import Contrastive
training = Training(
    generator=PatchGenerator(layout=PatchLayout.from_sizes([[6, 3, 2], [5, 6]], seed=2), latents=Uniform()),
    objective=Contrastive(), steps=120, batch_size=6, evaluation_samples=5, seeds=(3, 8),
    schedule=Schedule(frames=12), precision="float64")

def child(folder):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            runtime = Runtime(checkpoint_seconds=0, memory_limit_mib=1e-6)
            run = simulate(training, checkpoint=folder + "/run.pt", runtime=runtime)
            run.save(folder + "/run.nc")
            code = 0
        finally:
            os._exit(code)
    return pid

if __name__ == "__main__":
    folder, pauses = sys.argv[1], json.loads(sys.argv[2])
    simulate(replace(training, steps=1))  # loads compiled code: kills are to meet the training
    codes = []
    for pause in pauses:
        pid = child(folder)
        if pause is not None:
            time.sleep(pause)
            os.kill(pid, signal.SIGKILL)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(json.dumps(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_random_moments(tmp_path, rng, identical):
    """SIGKILL at five random moments of one run, then to the end: the bits of a run that nobody killed."""
    calm = {"__name__": "calm"}
    exec(KILLED, calm)
    pauses = [0.06, *rng.uniform(0.02, 0.3, size=4).tolist(), None]
    command = [sys.executable, "-c", KILLED, str(tmp_path), json.dumps(pauses)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    assert (codes[0], codes[-1]) == (-signal.SIGKILL, 0), done.stderr
    assert set(codes) == {-signal.SIGKILL, 0}
    identical(Trajectory.load(tmp_path / "run.nc"), simulate(calm["training"], runtime=SPLIT))
    assert not (tmp_path / "run.pt").exists()


class TestWhoDidIt:
    def test_one_machine_is_named_once(self, make_training):
        about = simulate(make_training()).dataset.attrs
        assert about["engine"] == backend_name("cpu") and about["machine"] == machine_name()
        (part,) = json.loads(about["parts"])
        assert part == {
            "engine": about["engine"],
            "machine": about["machine"],
            "steps": [0, 12],
            "seeds": [3, 8],
        }

    def test_content_queries_are_plain_torch(self, make_training):
        about = simulate(make_training("cl", content_queries=True, steps=1)).dataset.attrs
        assert about["engine"].startswith("plain torch")

    def test_a_run_that_goes_on_elsewhere_says_so(
        self, path, make_training, stop_after, monkeypatch, identical
    ):
        """It is not refused. Seeds that were finished, or began later, have one part."""
        training = make_training(seeds=(4, 1, 6))
        whole = simulate(training, runtime=SPLIT)
        stop_after(17, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate(training, checkpoint=path, runtime=SPLIT_EVERY_STEP)
        monkeypatch.setattr("vitdyn.dynamics.loop.machine_of", lambda device: "another processor")
        resumed = simulate(training, checkpoint=path, runtime=SPLIT)
        here, about = machine_name(), resumed.dataset.attrs
        assert about["machine"] == f"{here}; another processor"
        assert about["engine"] == backend_name("cpu")
        told = [(part["seeds"], part["steps"], part["machine"]) for part in json.loads(about["parts"])]
        assert told == [
            ([4], [0, 12], here),
            ([1], [0, 4], here),
            ([1], [4, 12], "another processor"),
            ([6], [0, 12], "another processor"),
        ]
        identical(resumed, whole)


def changed(state, name, part):
    return state | {name: part(state[name])}


def each_frame(state, part):
    return changed(
        state, "frames", lambda frames: {name: part(name, values) for name, values in frames.items()}
    )


CRAFTED = {
    "no frames": lambda state: {key: part for key, part in state.items() if key != "frames"},
    "no split": lambda state: {key: part for key, part in state.items() if key != "split"},
    "step beyond the end": lambda state: state | {"step": 13},
    "step far beyond the end": lambda state: state | {"step": 10**12},
    "negative step": lambda state: state | {"step": -1},
    "step of another type": lambda state: state | {"step": 3.0},
    "step as a tensor": lambda state: state | {"step": torch.tensor(3)},
    "step without its frames": lambda state: state | {"step": 9},
    "a list": lambda state: [state],
    "a number": lambda state: 3,
    "all a list": lambda state: [state],
    "all empty": lambda state: {},
    "all under another number": lambda state: {7: state},
    "too many frames": lambda state: each_frame(state, lambda name, values: values.repeat_interleave(3, 0)),
    "a frame less of one": lambda state: each_frame(
        state, lambda name, values: values[1:] if name == "loss" else values
    ),
    "frames that are none": lambda state: each_frame(state, lambda name, values: 3),
    "frames one by one": lambda state: state | {"frames": [state["frames"]]},
    "frames without losses": lambda state: changed(
        state, "frames", lambda frames: {name: values for name, values in frames.items() if name != "loss"}
    ),
    "frames of other shapes": lambda state: each_frame(state, lambda name, values: values[:, :1]),
    "frames of another dtype": lambda state: each_frame(state, lambda name, values: values.float()),
    "one seed less": lambda state: changed(
        state, "correlations", lambda blocks: {name: block[:1] for name, block in blocks.items()}
    ),
    "another layout": lambda state: changed(
        state, "correlations", lambda blocks: {name: block[..., :-1] for name, block in blocks.items()}
    ),
    "another dtype": lambda state: changed(
        state, "correlations", lambda blocks: {name: block.float() for name, block in blocks.items()}
    ),
    "numbers in place of blocks": lambda state: changed(
        state, "correlations", lambda blocks: dict.fromkeys(blocks, 1.0)
    ),
    "a block less": lambda state: changed(state, "correlations", lambda blocks: dict([*blocks.items()][:1])),
    "another rule's": lambda state: state | {"optimizer": {"velocity": state["correlations"]}},
    "another objective's": lambda state: state | {"objective_state": {"teacher": torch.zeros(2)}},
    "first_bad missing": lambda state: {key: part for key, part in state.items() if key != "first_bad"},
    "parts that are none": lambda state: state | {"parts": [("engine", "machine")]},
    "a seed twice": lambda state: state | {"split": {0: [(0, 3), (0, 3)]}},
    "another seed": lambda state: state | {"split": {0: [(0, 3), (0, 9)]}},
    "another cell": lambda state: state | {"split": {0: [(0, 3), (1, 8)]}},
    "a split that is none": lambda state: state | {"split": 3},
    "an empty group": lambda state: state | {"split": {0: [(0, 3), (0, 8)], 1: []}},
}


class TestComplaints:
    @pytest.fixture
    def stopped(self, path, make_training, stop_after):
        """A run that was stopped, and its checkpoint."""
        training = make_training()
        stop_after(5, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate(training, checkpoint=path, runtime=EVERY_STEP)
        return training

    def expect(self, remedy):
        return pytest.raises(
            CheckpointError, match=rf"\Acheckpoint = '[^\n]*run.pt': [^\n]*(?:{remedy})[^\n]*\Z"
        )

    @pytest.mark.parametrize(
        ("changes", "runtime"),
        [
            ({"steps": 13}, Runtime()),
            ({"seeds": (3, 9)}, Runtime()),
            ({"precision": "float32"}, Runtime()),
            ({"optimizer": GradientDescent(learning_rate=0.1)}, Runtime()),
            ({}, SPLIT),
        ],
    )
    def test_the_checkpoint_of_another_run(self, changes, runtime, stopped, path):
        before = path.read_bytes()
        with self.expect("another specification; delete it or name another folder"):
            simulate(replace(stopped, **changes), checkpoint=path, runtime=runtime)
        assert path.read_bytes() == before

    def test_the_checkpoint_of_a_run_from_another_start(self, stopped, path):
        start = Correlations.zeros(stopped.generator.layout, 2)
        with self.expect("another specification"):
            simulate(stopped, checkpoint=path, start=start)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_truncated_checkpoint(self, share, stopped, path):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with self.expect("checksum[^\n]*; delete it to start the run anew"):
            simulate(stopped, checkpoint=path)

    def test_one_bit_flipped_anywhere(self, stopped, path, rng):
        """At 100 places of the contents, and everywhere in the checksum itself."""
        whole = path.read_bytes()
        places = rng.integers(len(whole), size=100).tolist() + list(range(len(whole) - 80, len(whole)))
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with self.expect("unreadable [^\n]*checksum"):
                simulate(stopped, checkpoint=path)

    @pytest.mark.parametrize("damage", ["cut", "flipped", "other run", "folder"])
    def test_the_run_starts_anew_on_request(self, damage, stopped, path, identical, complaint):
        whole, training = path.read_bytes(), stopped
        if damage == "cut":
            path.write_bytes(whole[:500])
        elif damage == "flipped":
            path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
        elif damage == "other run":
            training = replace(stopped, batch_size=7)
        else:
            path.unlink()
            path.mkdir()
            with complaint("out", "is a folder"):
                simulate(training, checkpoint=path, runtime=Runtime(anew=True))
            return
        identical(simulate(training, checkpoint=path, runtime=Runtime(anew=True)), simulate(training))
        assert not path.exists()

    @pytest.mark.parametrize("content", [[1, 2], {"state": {}}, "text", {"spec": 1, "state": {}}])
    def test_a_file_of_something_else(self, content, stopped, path):
        write_sealed(path, lambda file: torch.save(content, file))
        with self.expect("unreadable"):
            simulate(stopped, checkpoint=path)

    def test_a_checkpoint_of_an_earlier_version(self, stopped, path):
        torch.save({"spec": "", "state": {}}, path)
        with self.expect("no checksum at its end: cut short, or not written by this version of vitdyn"):
            simulate(stopped, checkpoint=path)

    def test_a_file_that_would_run_code(self, stopped, path, tmp_path):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "sprung"),)

        write_checkpoint(path, "", Trap())
        with self.expect("unreadable"):
            simulate(stopped, checkpoint=path)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("name", CRAFTED)
    def test_what_this_run_cannot_have_written(self, name, stopped, path, stop_after):
        """With a right checksum and the right specification; no step is taken."""
        found = stored(path)
        state = found["state"][0]
        made = CRAFTED[name](state)
        write_checkpoint(path, found["spec"], made if name.startswith("all") else {0: made})
        stop_after(1, lambda: pytest.fail("trained"))
        with self.expect("cannot be of this run|holds no groups|holds something else"):
            simulate(stopped, checkpoint=path)

    def test_it_is_a_value_error(self):
        assert issubclass(CheckpointError, ValueError)

    def test_a_folder_that_cannot_be_written(self, tmp_path, make_training, complaint):
        (tmp_path / "file").write_text("in the way")
        with complaint("out", "name another folder"):
            simulate(make_training(), checkpoint=tmp_path / "file" / "run.pt", runtime=EVERY_STEP)


class TestFiles:
    def test_a_failed_write_leaves_the_old_file(self, path):
        write_checkpoint(path, "spec", {0: {"step": 3}})
        with pytest.raises(Exception, match="pickle"):
            write_checkpoint(path, "spec", {0: lambda: None})
        assert read_checkpoint(path, "spec", CPU) == {0: {"step": 3}}
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_no_file_is_no_state(self, path):
        assert read_checkpoint(path, "spec", CPU) is None

    def test_a_checkpointer_saves_when_its_seconds_have_passed(self, path, monkeypatch):
        clock = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        checkpointer = Checkpointer({path: [0]}, ["spec"], 10.0)
        checkpointer.start([((0, 1),), ((0, 2),)], {})
        due = []
        for moment in (100.0, 105.0, 109.9, 110.0, 119.0):
            clock[0] = moment
            due.append((checkpointer.should_save(0), checkpointer.should_save(1)))
            if moment == 110.0:
                checkpointer.save(0, ((0, 1),), {"frames": []})
        assert due == [(False, False)] * 3 + [(True, True), (False, True)]
        assert not Checkpointer({}, ["spec"], 0.0).should_save(0)

    def test_slow_writing_makes_deposits_rarer(self, path, monkeypatch):
        """A twentieth of the time at most, as long as that is within six times the seconds that were asked for."""
        clock = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        checkpointer = Checkpointer({path: [0]}, ["spec"], 10.0)
        checkpointer.start([((0, 1),)], {})

        cost = [0.0]
        monkeypatch.setattr(
            "vitdyn.dynamics.checkpoint.write_checkpoint", lambda *_: clock.append(clock.pop() + cost[0])
        )
        for cost[0], wait in ((1.0, 30.0), (100.0, 60.0), (0.0, 10.0)):
            checkpointer.save(0, ((0, 1),), {"frames": []})
            begun = clock[0]
            for passed, due in ((wait - 0.1, False), (wait, True)):
                clock[0] = begun + passed
                assert checkpointer.should_save(0) == due
