"""Sweeps on a cluster whose workers and scheduler are lost: every cell has the bits of a run by itself (exact)."""

import json
import resource
import threading
import time
from dataclasses import replace

import dask
import pytest
from deeds import RATES, Deed, make, swept
from distributed import Client, LocalCluster

from vitdyn._progress import progress
from vitdyn.dynamics import Runtime
from vitdyn.experiments import run
from vitdyn.experiments.sweep_cluster import Cluster
from vitdyn.experiments.sweep_folder import Definition, SweepFolder
from vitdyn.experiments.sweep_tasks import Task
from vitdyn.trajectory import Trajectory


def prepared(sweep, out):
    """Keep a sweep's definition; return its tasks, one to a cell and thus more than workers, and the folder."""
    folder = SweepFolder(out)
    folder.add(Definition.of(sweep))
    return [Task((index,), (cell.experiment.key,)) for index, cell in enumerate(sweep)], folder


def carry_out(sweep, out, scheduler, bar=None, patience=20.0):
    tasks, folder = prepared(sweep, out)
    Cluster(scheduler=str(scheduler), patience=patience)(
        sweep, tasks, folder, Runtime(keep_final_state=False), bar or progress(False, 0, "cell")
    )


@pytest.fixture(scope="module")
def alone():
    """What each plain cell gives in a run by itself, by its rate."""
    runtime = Runtime(keep_final_state=False)
    return {rate: run(make(rate), runtime=runtime).dataset.drop_attrs() for rate in RATES}


@pytest.fixture
def check(alone):
    def carry_out(sweep, out, **failed):
        """Every cell has the bits that it has alone, or a record of why its deed failed; and nothing else is there."""
        folder = SweepFolder(out)
        for cell in sweep:
            key, deed = cell.experiment.key, cell.coordinates.get("deed")
            if deed in failed:
                assert not folder.result(key).exists() and failed[deed] in folder.why_failed(key)
            else:
                found = Trajectory.load(folder.result(key)).dataset.drop_attrs()
                assert found.drop_vars("deed", errors="ignore").identical(alone[cell.coordinates["rate"]])
                assert folder.why_failed(key) is None
        left = [path.suffix for path in out.rglob("*.*") if path.suffix not in (".nc", ".json")]
        assert set(left) <= {".checkpoint"} if failed else not left

    return carry_out


@pytest.fixture
def up():
    """Start a scheduler and workers that are threads of this process; return where it listens."""
    clusters = []

    def start(workers=2):
        clusters.append(
            LocalCluster(n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=None)
        )
        return clusters[-1]

    yield start
    for each in clusters:
        each.close()


class Stop:
    """A progress bar that does something once a cell has ended."""

    def __init__(self, action):
        self.n, self.action = 0, action

    def update(self, count):
        self.n += count
        if self.n == 1:
            self.action()


def test_what_a_cell_does_is_its_record_and_what_a_machine_lacks_is_tried_elsewhere(up, tmp_path, check):
    sweep = swept(
        raises=Deed(kind="raise"),
        lacks=Deed(kind="memory"),
        once=Deed(kind="memory", once=str(tmp_path / "met")),
    )
    carry_out(sweep, tmp_path / "out", up().scheduler_address)
    check(sweep, tmp_path / "out", raises="RuntimeError: as it should", lacks="MemoryError: no room here")


def test_a_scheduler_that_is_lost_and_comes_back_elsewhere(up, tmp_path, check):
    file, first = tmp_path / "scheduler.json", up(1)
    file.write_text(json.dumps({"address": first.scheduler_address}))

    def lose():
        first.close()
        file.write_text(json.dumps({"address": up(1).scheduler_address}))

    with pytest.warns(UserWarning, match="the scheduler does not answer: waiting up to 20 s"):
        carry_out(swept(), tmp_path / "out", file, Stop(lose))
    check(swept(), tmp_path / "out")


def test_an_interrupt_leaves_nothing_behind_and_the_same_call_goes_on(up, tmp_path, check):
    address = up(1).scheduler_address

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(swept(), tmp_path / "out", address, Stop(interrupt))
    with Client(address, set_as_default=False) as client:
        for _ in range(100):
            if not (held := client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))):
                break
            time.sleep(0.05)
    assert held == 0
    carry_out(swept(), tmp_path / "out", address)
    check(swept(), tmp_path / "out")


def test_two_clients_on_one_folder(up, tmp_path, check):
    address = up().scheduler_address
    other = threading.Thread(target=carry_out, args=(swept(), tmp_path / "out", address))
    other.start()
    carry_out(swept(), tmp_path / "out", address)
    other.join()
    check(swept(), tmp_path / "out")


def test_processes_that_are_killed_and_one_that_finds_no_disk(tmp_path, check):
    """A cell kills whichever process runs it, and on one worker no file can grow."""
    sweep = replace(
        swept(plain=None, kills=Deed(kind="kill")), points=((0, 0), (1, 0), (2, 0), (3, 0), (0, 1))
    )
    # a task is given up when it has lost one worker: to start another takes seconds
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=60) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        full = next(iter(client.nthreads()))
        client.run(resource.setrlimit, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY), workers=[full])
        with pytest.warns(UserWarning, match=f"worker {full} is sent no more: .*cannot be written"):
            carry_out(sweep, tmp_path / "out", cluster.scheduler_address, patience=100.0)
    check(sweep, tmp_path / "out", kills="1 workers were lost with it")


def test_other_software_is_refused_by_whoever_has_it(up, tmp_path, monkeypatch):
    monkeypatch.setattr("vitdyn.experiments.sweep_cluster.software", lambda: "python=2.7")
    with pytest.raises(
        ValueError, match=r"engine = .*: of worker .*: it has python=3.*, this machine has python=2.7"
    ):
        carry_out(swept(), tmp_path, up(1).scheduler_address)


def test_an_engine_that_is_none_is_refused(up, tmp_path):
    with pytest.raises(ValueError, match="no such file: 'dask scheduler --scheduler-file FILE' writes one"):
        Cluster(scheduler=str(tmp_path / "scheduler.json"))
    (tmp_path / "scheduler.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a file, or begin with one of inproc://"):
        Cluster(scheduler="ftp://nowhere:1")
    with pytest.raises(ValueError, match="is no file of a dask scheduler"):
        Cluster(scheduler=str(tmp_path / "scheduler.json"))
    with pytest.raises(ValueError, match="no scheduler answers there for 0 s"):
        carry_out(swept(), tmp_path / "out", "tcp://127.0.0.1:9", patience=0.0)
    with pytest.raises(
        ValueError, match="has had no worker for 0 s: dask worker --scheduler-file FILE starts one"
    ):
        carry_out(swept(), tmp_path / "out", up(0).scheduler_address, patience=0.0)
