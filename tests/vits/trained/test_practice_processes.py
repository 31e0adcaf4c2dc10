"""Processes that train side by side: without a main guard, after their caller's death; and bad input. Exact."""

import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from vitdyn import _processes
from vitdyn._processes import StoppedError, number_of_workers, side_by_side
from vitdyn._progress import progress
from vitdyn.dynamics import Runtime
from vitdyn.experiments import Experiment, ResultStore
from vitdyn.vits import (
    Pretraining,
    SmallViT,
    by_depth,
    by_method,
    estimate_seconds,
    findings,
    pretrain,
    spec_of,
    value_table,
)
from vitdyn.vits.augmentation import minibatch
from vitdyn.vits.methods import Reconstruction
from vitdyn.vits.pretraining_loop import train

# groups begin before single tests, in whose order these would be the last of all, and the longest
pytestmark = pytest.mark.xdist_group("processes")

ROOT = Path(__file__).parents[3]
WORK = """
import os, time
def work(item, advance):
    advance(1)
    open(f"begun-{item}", "w").close()
    time.sleep(float(item))
"""
UNGUARDED = """
import sys
from vitdyn._processes import side_by_side
from vitdyn._progress import progress
from work import work
print("begun", flush=True)
side_by_side(work, sys.argv[1:], 2, progress(False, 2, "step"))
print("done")
"""


def begin(tmp_path, *items):
    """Run a script without a main guard that works on items side by side."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    (tmp_path / "work.py").write_text(WORK)
    return subprocess.Popen(
        [sys.executable, "script.py", *items], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_script_needs_no_main_guard(tmp_path):
    said, complained = begin(tmp_path, "0", "0.01").communicate(timeout=300)
    assert (said, complained) == ("begun\ndone\n", "")
    assert len(list(tmp_path.glob("begun-*"))) == 2


def test_another_process_makes_the_same_bits_and_counts_its_steps(tiny, tmp_path, capsys, monkeypatch):
    pool = _processes.ProcessPoolExecutor  # of one process: to start a second takes as long again
    monkeypatch.setattr(
        _processes, "ProcessPoolExecutor", lambda workers, *given, **named: pool(1, *given, **named)
    )
    asked = [Experiment(name="a", training=tiny()), Experiment(name="b", training=tiny("untrained"))]
    store = ResultStore(tmp_path, workers=2, runtime=Runtime(progress=True))
    threads = torch.get_num_threads()
    for found, each in zip(store.all(asked), asked, strict=True):
        for name, values in pretrain(each.training).dataset.data_vars.items():
            np.testing.assert_array_equal(found.dataset[name], values)
    said = capsys.readouterr()
    assert "2 trainings, about" in said.out and "5 of 5 steps" in said.err
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".nc", ".nc"]
    assert torch.get_num_threads() == threads


def children(pid):
    """Return the processes of a pool whose caller this is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_text()
        except OSError:  # it ended
            continue
        if int(fields[1]) == pid and "spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are read from Linux's /proc")
def test_processes_leave_when_their_caller_is_killed(tmp_path):
    caller = begin(tmp_path, "600", "601")
    wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
    workers = children(caller.pid)
    assert len(workers) == 2
    caller.kill()
    caller.communicate()
    wait_for(lambda: not any(map(alive, workers)), 30)


def test_the_callers_script_is_as_it_was(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)
    before = main.__spec__
    with _processes._main_left_alone():
        assert main.__spec__ is None and not hasattr(main, "__file__")
    assert main.__spec__ is before and main.__file__ == "script.py"


def test_a_process_counts_its_steps_and_ends_when_the_caller_says_so(monkeypatch):
    context = get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    monkeypatch.setattr(_processes, "_steps_done", counter)
    monkeypatch.setattr(_processes, "_stop", stop)
    done = []

    def work(item, advance):
        advance(item)
        done.append(item)

    _processes._counted(work, 5)
    assert counter.value == 5
    stop.set()
    with pytest.raises(StoppedError):
        _processes._counted(work, 2)
    assert counter.value == 5 and done == [5]


class Pool:
    """A pool of processes that do nothing: each piece of work ends at once, as ``result`` says."""

    __init__ = __exit__ = lambda self, *given, **options: None
    __enter__ = lambda self: self  # noqa: E731

    def submit(self, *given):
        return self

    def shutdown(self, **options):
        Pool.ended = options

    def result(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised", "ended"),
    [(BrokenProcessPool("abruptly"), ChildProcessError, None),
     (ArithmeticError("not finite"), ArithmeticError, {"wait": False, "cancel_futures": True})],
)  # fmt: skip
def test_an_error_in_a_process_ends_all_and_one_that_was_killed_is_one_line(
    error, raised, ended, monkeypatch
):
    monkeypatch.setattr(Pool, "error", error, raising=False)
    monkeypatch.setattr(Pool, "ended", None, raising=False)
    monkeypatch.setattr(_processes, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(_processes, "wait", lambda waiting, **options: (waiting, set()))
    with pytest.raises(raised, match=r"not finite|was ended from outside, perhaps for lack of memory"):
        side_by_side(print, [1, 2], 2, progress(False, 0, "step"))
    assert Pool.ended == ended


def test_as_many_processes_as_cores_or_as_are_asked_for(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(9), raising=False)
    assert number_of_workers(None, on_gpu=False) == 9
    assert number_of_workers(None, on_gpu=True) == 4 and number_of_workers(7, on_gpu=True) == 7


SPEC = Pretraining(method=Reconstruction())
LARGE = Pretraining(method=Reconstruction(), vit=SmallViT(width=4 * 10**7))


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("experiments", lambda: ResultStore("x").all(SPEC)),
        ("experiments[0]", lambda: ResultStore("x").all([SPEC])),
        ("workers", lambda: ResultStore("x", workers=0)),
        ("workers", lambda: ResultStore("x", workers="two")),
        ("training", lambda: Experiment(name="a", training="Digits")),
        ("spec", lambda: pretrain(None)),
        ("checkpoint", lambda: pretrain(SPEC, checkpoint=3)),
        ("runtime", lambda: pretrain(SPEC, runtime="cpu")),
        ("device", lambda: pretrain(SPEC, runtime=Runtime(device="tpu"))),
        ("workers", lambda: estimate_seconds([SPEC], workers=0)),
        ("batch_size", lambda: train(replace(SPEC, batch_size=1298, steps=1))),
        ("batch_size", lambda: minibatch(0, 0, 8, 7)),
        ("vit", lambda: train(LARGE)),
        ("steps", lambda: train(replace(SPEC, steps=10**15))),
        ("records", lambda: value_table([])),
        ("records", lambda: findings(3)),
        ("records[0]", lambda: findings([None])),
        ("records", lambda: by_method(None, "lidar")),
        ("name", lambda: by_depth(None, "lidars")),
        ("trajectory", lambda: by_depth(None, "lidar")),
        ("trajectory", lambda: spec_of(SPEC)),
    ],
)
def test_bad_arguments_are_named(field, make, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with complaint(field):
        make()
    assert not list(tmp_path.iterdir())
