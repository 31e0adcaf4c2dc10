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

from vitdyn._signals import Terminated, interrupted_by_sigterm
from vitdyn.attention import Correlations
from vitdyn.dynamics import Adam, CheckpointError, GradientDescent, Momentum, simulate
from vitdyn.dynamics.checkpoint import Keeper, read_checkpoint, write_checkpoint
from vitdyn.trajectory import Trajectory

CPU = torch.device("cpu")
EVERY_STEP = {"checkpoint_seconds": 0}
NEVER = {"checkpoint_seconds": 1e6}
SPLIT = {"memory_limit_mib": 1e-6}


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
        {"objective": "cl", "descent": Adam(learning_rate=0.1)},
        {"descent": Momentum(learning_rate=0.5), "data_set_size": 8, "precision": "float32"},
        {"objective": "cl", "content_queries": True},
    ],
    ids=["mae", "cl-adam", "momentum-data-set", "content"],
)
def test_k_and_m_steps_equal_k_plus_m(count, changes, path, make_training, identical, stop_after):
    training = make_training(**changes)
    whole = simulate(training)
    done = stop_after(count, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        simulate(training, checkpoint=path, **EVERY_STEP)
    assert path.is_file() == (count > 1)
    if count > 1:
        assert stored(path)["state"][0]["step"] == count - 1
    resumed = simulate(training, checkpoint=path)
    assert len(done) == count + training.steps - (count - 1)
    identical(resumed, whole)
    assert not path.exists()


def test_a_finished_run_leaves_nothing_behind(path, make_training, identical):
    training = make_training()
    identical(simulate(training, checkpoint=path, **EVERY_STEP), simulate(training))
    assert list(path.parent.iterdir()) == []


def test_stopped_twice_with_groups_of_seeds(path, make_training, identical, stop_after):
    """Finished groups are not trained again; a waiting one may do a single step before it is stopped too."""
    training = make_training(seeds=(4, 1, 6))
    whole = simulate(training, **SPLIT)
    for count in (5, 12):
        done = stop_after(count, RuntimeError("stopped here"))
        with pytest.raises(RuntimeError, match="stopped here"):
            simulate(training, checkpoint=path, **SPLIT, **EVERY_STEP)
        assert count <= len(done) <= count + 1
    steps = {index: state["step"] for index, state in stored(path)["state"].items()}
    assert steps[0] == 12
    assert steps[1] in (3, 4)
    identical(simulate(training, checkpoint=path, **SPLIT), whole)


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
            simulate(training, checkpoint=path, **NEVER)
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
        simulate(training, checkpoint=path, **EVERY_STEP)
    before = stored(path)["state"][0]["correlations"]
    kept = {}

    class Watching(Keeper):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.update(self.states[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["vitdyn.dynamics.simulate"], "Keeper", Watching)
        simulate(training, checkpoint=path, **NEVER)
    assert (kept["step"], len(kept["frames"])) == (3, 1)
    assert all(torch.equal(kept["correlations"][name], block) for name, block in before.items())


KILLED = """
import json, os, random, signal, sys, time
import torch, xarray, netCDF4
torch.set_num_threads(1)
from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.objectives import Contrastive
training = Training(
    generator=PatchGenerator(layout=PatchLayout.from_sizes([[6, 3, 2], [5, 6]], seed=2), latents=Uniform()),
    objective=Contrastive(), steps=120, samples=6, evaluation_samples=5, seeds=(3, 8),
    schedule=Schedule(frames=12), precision="float64")

def child(folder):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            options = {"checkpoint_seconds": 0, "memory_limit_mib": 1e-6}
            run = simulate(training, checkpoint=folder + "/run.pt", **options)
            run.save(folder + "/run.nc")
            code = 0
        finally:
            os._exit(code)
    return pid

if __name__ == "__main__":
    folder, pauses = sys.argv[1], json.loads(sys.argv[2])
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
    identical(Trajectory.load(tmp_path / "run.nc"), simulate(calm["training"], **SPLIT))
    assert not (tmp_path / "run.pt").exists()


class TestComplaints:
    @pytest.fixture
    def stopped(self, path, make_training, stop_after):
        """A run that was stopped, and its checkpoint."""
        training = make_training()
        stop_after(5, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate(training, checkpoint=path, **EVERY_STEP)
        return training

    def expect(self, remedy):
        return pytest.raises(CheckpointError, match=rf"\Acheckpoint = '[^\n]*run.pt': [^\n]*{remedy}[^\n]*\Z")

    @pytest.mark.parametrize(
        ("changes", "options"),
        [
            ({"steps": 13}, {}),
            ({"seeds": (3, 9)}, {}),
            ({"precision": "float32"}, {}),
            ({"descent": GradientDescent(learning_rate=0.1)}, {}),
            ({}, SPLIT),
        ],
    )
    def test_the_checkpoint_of_another_run(self, changes, options, stopped, path):
        before = path.read_bytes()
        with self.expect("another specification; delete it or name another folder"):
            simulate(replace(stopped, **changes), checkpoint=path, **options)
        assert path.read_bytes() == before

    def test_the_checkpoint_of_a_run_from_another_start(self, stopped, path):
        start = Correlations.zeros(stopped.generator.layout, 2)
        with self.expect("another specification"):
            simulate(stopped, checkpoint=path, start=start)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_truncated_checkpoint(self, share, stopped, path):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with self.expect("unreadable; delete it to start the run anew"):
            simulate(stopped, checkpoint=path)

    @pytest.mark.parametrize("content", [[1, 2], {"state": {}}, "text"])
    def test_a_file_of_something_else(self, content, stopped, path):
        torch.save(content, path)
        with self.expect("unreadable"):
            simulate(stopped, checkpoint=path)

    def test_a_file_that_would_run_code(self, stopped, path, tmp_path):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "sprung"),)

        torch.save({"spec": "", "state": Trap()}, path)
        with self.expect("unreadable"):
            simulate(stopped, checkpoint=path)
        assert not (tmp_path / "sprung").exists()

    def test_it_is_a_value_error(self):
        assert issubclass(CheckpointError, ValueError)

    def test_a_folder_that_cannot_be_written(self, tmp_path, make_training, complaint):
        (tmp_path / "file").write_text("in the way")
        with complaint("out", "name another folder"):
            simulate(make_training(), checkpoint=tmp_path / "file" / "run.pt", **EVERY_STEP)


class TestFiles:
    def test_a_failed_write_leaves_the_old_file(self, path):
        write_checkpoint(path, "spec", {0: {"step": 3}})
        with pytest.raises(Exception, match="pickle"):
            write_checkpoint(path, "spec", {0: lambda: None})
        assert read_checkpoint(path, "spec", CPU) == {0: {"step": 3}}
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_no_file_is_no_state(self, path):
        assert read_checkpoint(path, "spec", CPU) is None

    def test_a_keeper_is_due_when_its_seconds_have_passed(self, path, monkeypatch):
        clock = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        keeper = Keeper(path, "spec", 10.0, CPU)
        due = []
        for moment in (100.0, 105.0, 109.9, 110.0, 119.0):
            clock[0] = moment
            due.append((keeper.due(0), keeper.due(1)))
            if moment == 110.0:
                keeper.deposit(0, {})
        assert due == [(False, False)] * 3 + [(True, True), (False, True)]
        assert not Keeper(None, "spec", 0.0, CPU).due(0)
