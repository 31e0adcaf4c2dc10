"""Processes that train side by side: without a main guard, after their caller's death; and bad input. Exact."""

import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitdyn.practice import (
    Analysis,
    Architecture,
    Digits,
    Images,
    PracticeStore,
    Pretraining,
    Record,
    estimate_seconds,
    findings,
    run,
    value_table,
)
from vitdyn.practice import store as store_module
from vitdyn.practice.training import train

ROOT = Path(__file__).parents[2]
UNGUARDED = """
import sys
from vitdyn.practice import Analysis, Architecture, PracticeStore, Pretraining
small = Architecture(width=16, layers=2, heads=2, decoder_width=8, decoder_heads=2)
specs = [Pretraining(method="reconstruction", architecture=small, steps=int(sys.argv[2]), batch=8, seed=seed,
                     analysis=Analysis(images=24, objects=12, views=10)) for seed in range(2)]
print("begun", flush=True)
print(len(PracticeStore(folder=sys.argv[1], device="cpu", workers=2)(specs)))
"""


def begin(tmp_path, steps):
    (tmp_path / "script.py").write_text(UNGUARDED)
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "results"), str(steps)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_script_needs_no_main_guard(tmp_path):
    said, complained = begin(tmp_path, 3).communicate(timeout=300)
    assert (said, complained) == ("begun\n2\n", "")
    assert len(list((tmp_path / "results").glob("*.nc"))) == 2


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
    caller = begin(tmp_path, 10**6)
    wait_for(lambda: len(list((tmp_path / "results").glob("*.checkpoint"))) == 2)
    workers = children(caller.pid)
    assert len(workers) == 2
    caller.kill()
    caller.communicate()
    wait_for(lambda: not any(map(alive, workers)), 30)


def test_the_callers_script_is_as_it_was(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)
    before = main.__spec__
    with store_module._main_left_alone():
        assert main.__spec__ is None and not hasattr(main, "__file__")
    assert main.__spec__ is before and main.__file__ == "script.py"


def test_a_process_that_was_killed_is_one_line(tiny, tmp_path, monkeypatch):
    class Broken:
        def result(self):
            raise BrokenProcessPool("abruptly")

    class Pool:
        __init__ = __exit__ = shutdown = lambda self, *given, **options: None
        __enter__ = lambda self: self  # noqa: E731
        submit = lambda self, *given: Broken()  # noqa: E731

    monkeypatch.setattr(store_module, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(store_module, "wait", lambda waiting, **options: (waiting, set()))
    with pytest.raises(ChildProcessError, match="was ended from outside, perhaps for lack of memory"):
        PracticeStore(folder=tmp_path, device="cpu", workers=2)([tiny(), tiny(seed=9)])


IMAGES = Digits(test=40).load()


def changed(field, change):
    values = getattr(IMAGES, field).clone()
    return replace(IMAGES, **{field: change(values)})


def with_nan(values):
    values[3, 0, 1, 2] = torch.nan
    return values


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("train[3, 0, 1, 2]", lambda: changed("train", with_nan)),
        ("test[0, 0, 0, 0]", lambda: changed("test", lambda values: values + 2)),
        ("train.shape", lambda: changed("train", lambda values: values[:0])),
        ("test.shape", lambda: changed("test", lambda values: values[..., :4])),
        ("test.shape", lambda: changed("test", lambda values: values[:, 0])),
        ("train.shape", lambda: changed("train", lambda values: values.expand(-1, 3, -1, -1))),
        ("train", lambda: changed("train", lambda values: values.numpy())),
        ("train", lambda: changed("train", lambda values: (16 * values).long())),
        ("train", lambda: changed("train", lambda values: values * 0)),
        ("train_labels.shape", lambda: changed("train_labels", lambda values: values[1:])),
        ("test_labels", lambda: changed("test_labels", lambda values: values.double())),
        ("test_labels", lambda: changed("test_labels", lambda values: values - 5)),
        ("test_labels", lambda: changed("test_labels", lambda values: values > 3)),
    ],
)
def test_images_that_cannot_be_learned_from_are_refused(field, make, complaint):
    with complaint(field):
        make()


SPEC = Pretraining(method="reconstruction")
LARGE = Pretraining(method="reconstruction", architecture=Architecture(width=4 * 10**7))


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("specs", lambda: PracticeStore(folder="x")(SPEC)),
        ("specs", lambda: PracticeStore(folder="x")("reconstruction")),
        ("specs", lambda: PracticeStore(folder="x")(None)),
        ("specs[1]", lambda: PracticeStore(folder="x")([SPEC, None])),
        ("folder", lambda: PracticeStore(folder=None)),
        ("redraw", lambda: PracticeStore(folder="x", redraw="no")),
        ("spec", lambda: run(None)),
        ("out", lambda: run(SPEC, out=3)),
        ("device", lambda: run(SPEC, device="tpu")),
        ("workers", lambda: estimate_seconds([SPEC], workers=0)),
        ("batch", lambda: train(replace(SPEC, batch=1298, steps=1))),
        ("architecture", lambda: train(LARGE)),
        ("steps", lambda: train(replace(SPEC, steps=10**15))),
        ("records", lambda: value_table([])),
        ("records", lambda: findings(3)),
        ("records[0]", lambda: findings([None])),
        ("pretraining", lambda: Pretraining.from_json(None)),
        ("pretraining", lambda: Pretraining.from_json("[" * 10**5)),
        ("pretraining", lambda: Pretraining.from_json('{"steps":' + "1" * 5000 + "}")),
        ("pretraining", lambda: Pretraining.from_json('{"a":' * 400 + "1" + "}" * 400)),
        ("kind", lambda: Pretraining.from_json('{"kind": ["Digits"]}')),
    ],
)
def test_bad_arguments_are_named(field, make, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with complaint(field):
        make()
    assert not list(tmp_path.iterdir())


def test_texts_and_torchs_devices_are_taken(tiny, tmp_path):
    record = run(tiny("untrained"), out=str(tmp_path / "one.nc"), device=torch.device("cpu"))
    assert isinstance(record, Record)
    assert PracticeStore(folder=str(tmp_path), device=torch.device("cpu"), workers=1)([tiny("untrained")])
    assert isinstance(Images(IMAGES.train, IMAGES.train_labels, IMAGES.test, IMAGES.test_labels), Images)
    assert Analysis().images == 256
