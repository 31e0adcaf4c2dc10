"""``make faults``: a sweep of 200 tasks whose workers, scheduler, disk and client are lost, against one undisturbed.

Each row ends with every cell equal to the undisturbed one, to the bit, or the script ends with 1. Some minutes.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from distributed import Client
from fault_cells import FAILED, sweep

import vitdyn as vd
from vitdyn._tables import text_table
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.trajectory import Trajectory

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(HERE), *sys.path[1:]))}
DASK = (sys.executable, "-m", "dask")
TOO_LITTLE = "250MiB"
"""Of memory: torch and vitdyn alone take more, so that the worker is ended as soon as it begins with a task."""


class Kept:
    """A process in a group of its own, started again when it ends: as by the loop of a batch script."""

    def __init__(self, *command, log=os.devnull):
        shell = "exec " + " ".join(command) + f" 2>> {log}"
        self.started, self.stopped = 0, False
        self.command = ("bash", "-c", shell)
        self.thread = threading.Thread(target=self._keep, daemon=True)
        self.thread.start()

    def _keep(self):
        while not self.stopped:
            self.process = subprocess.Popen(self.command, env=ENVIRONMENT, start_new_session=True)
            self.started += 1
            self.process.wait()
            time.sleep(0.5)

    def kill(self):
        """Kill the process and all that it started, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self):
        """Kill it for good."""
        self.stopped = True
        self.kill()
        self.thread.join()


class Place:
    """A folder, and a cluster of some workers."""

    def __init__(self, folder, stack, workers=3):
        self.folder, self.file, self.stack = folder, folder / "scheduler.json", stack
        self.scheduler = self._kept(
            *DASK, "scheduler", "--scheduler-file", str(self.file), "--port", "0", "--no-dashboard"
        )
        self.workers = [self.worker() for _ in range(workers)]
        self.wait(workers)

    def wait(self, count):
        """Wait for as many workers; return their addresses."""
        with Client(scheduler_file=str(self.file), set_as_default=False) as client:
            client.wait_for_workers(count, timeout=300)
            return set(client.nthreads())

    def worker(self, *options, **how):
        """Start a worker."""
        common = (
            "--scheduler-file",
            str(self.file),
            "--nthreads",
            "1",
            "--no-dashboard",
            "--local-directory",
        )
        return self._kept(*DASK, "worker", *common, str(self.folder / "spill"), *options, **how)

    def _kept(self, *command, **how):
        process = Kept(*command, **how)
        self.stack.callback(process.stop)
        return process

    def client(self, out):
        """Start a client."""
        command = (sys.executable, str(HERE / "fault_client.py"), str(out), str(self.file))
        return subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def results(out):
    """Return the files of results."""
    return list(out.glob("cells/*/*.nc"))


def wait_for(out, count, client):
    """Wait for as many results, or the client's end."""
    while len(results(out)) < count and client.poll() is None:
        time.sleep(0.05)


def undisturbed(place, out, rng):
    """Nothing happens."""
    return ended(place.client(out))


def killed(place, out, rng):
    """Three workers are killed, each with its nanny, at random moments."""
    client, said = place.client(out), []
    for worker, moment in zip(place.workers, sorted(rng.integers(5, 170, 3)), strict=True):
        wait_for(out, moment, client)
        worker.kill()
        said.append(str(len(results(out))))
    return f"killed at {', '.join(said)} results; {ended(client)}"


def without_memory(place, out, rng):
    """A fourth worker has too little memory, and is ended by its nanny at each task."""
    log = out.with_suffix(".log")
    with extra(place, "--memory-limit", TOO_LITTLE, log=log):
        said = ended(place.client(out))
    return f"ended by its nanny {log.read_text().count('exceeded 95%')} times; {said}"


def without_disk(place, out, rng):
    """A fourth worker can write no file of more than a kilobyte."""
    with extra(place) as address:
        with Client(scheduler_file=str(place.file), set_as_default=False) as client:
            client.run(resource.setrlimit, resource.RLIMIT_FSIZE, (1000, 1000), workers=[address])
        return ended(place.client(out))


def scheduler_lost(place, out, rng):
    """The scheduler is killed at a random moment, and comes back at another port."""
    client = place.client(out)
    wait_for(out, moment := int(rng.integers(20, 150)), client)
    place.scheduler.kill()
    return f"killed at {len(results(out))} results, drawn {moment}; {ended(client)}"


def two_clients(place, out, rng):
    """Two clients run the sweep into one folder."""
    clients = place.client(out), place.client(out)
    return "; ".join(map(ended, clients))


def interrupted(place, out, rng):
    """The client is interrupted at a random moment, and the same command given again."""
    client = place.client(out)
    wait_for(out, int(rng.integers(20, 150)), client)
    client.send_signal(signal.SIGINT)
    _, words = client.communicate(timeout=120)
    if client.returncode != 130:
        raise SystemExit(f"the interrupted client ended with {client.returncode}: {words}")
    return f"exit {client.returncode} at {len(results(out))} results ({words.strip()}); {ended(place.client(out))}"


SCENARIOS = (undisturbed, killed, without_memory, without_disk, scheduler_lost, two_clients, interrupted)


@contextmanager
def extra(place, *options, **how):
    """Have a fourth worker for a while."""
    before = place.wait(len(place.workers))
    worker = place.worker(*options, **how)
    try:
        yield next(iter(place.wait(len(before) + 1) - before))
    finally:
        worker.stop()


def ended(client):
    """Wait for a client; return what it said."""
    told, words = client.communicate(timeout=900)
    if client.returncode:
        raise SystemExit(f"the client ended with {client.returncode}: {words}")
    lines = [" ".join(line.split()) for line in words.splitlines() if line.startswith("sweep:")]
    return f"{told.strip()} tasks" + (f" ({'; '.join(lines)})" if lines else "")


def compared(out, reference):
    """Return in words how many cells are the undisturbed ones, to the bit, and what else is there."""
    folder, expected = SweepFolder(out), SweepFolder(reference)
    alike = failed = 0
    for cell in sweep:
        key = cell.experiment.key
        if expected.result(key).is_file():
            found, right = (
                Trajectory.load(each.result(key)).dataset.drop_attrs() for each in (folder, expected)
            )
            alike += found.identical(right)
        else:
            failed += folder.why_failed(key) == expected.why_failed(key) is not None
    data = vd.collect(out)
    keys = data["key"].to_numpy().ravel().tolist()
    collected = data["status"].to_numpy().ravel().tolist()
    others = [
        path for path in out.rglob("*") if path.suffix not in (".nc", ".json", "") or "vitdyn" in path.name
    ]
    wrong = (
        alike != len(sweep) - FAILED
        or failed != FAILED
        or len(set(keys)) != len(sweep)
        or (collected.count("done"), collected.count("failed")) != (alike, failed)
        or len(results(out)) != alike
    )
    if wrong:
        raise SystemExit(f"{out.name}: {alike} alike, {failed} failed alike, {len(set(keys))} keys, {others}")
    return alike, failed, len(others)


def main(names):
    """Run the scenarios of these names, or all; print the table."""
    rng, rows = np.random.default_rng(24), []
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so its clients
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        began = time.monotonic()
        command = (sys.executable, str(HERE / "fault_client.py"), str(folder / "local"))
        subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
        print(f"local engine: {time.monotonic() - began:.0f} s", flush=True)
        place = Place(folder, stack)
        for scenario in SCENARIOS:
            if names and scenario.__name__ not in names:
                continue
            began = time.monotonic()
            starts = sum(worker.started for worker in place.workers)
            said = scenario(place, folder / scenario.__name__, rng)
            alike, failed, left = compared(folder / scenario.__name__, folder / "local")
            again = sum(worker.started for worker in place.workers) - starts
            rows.append(
                (scenario.__name__, alike, failed, left, again, f"{time.monotonic() - began:.0f}", said)
            )
            print(json.dumps(rows[-1]), flush=True)
    head = (
        "what happens",
        "alike",
        "failed alike",
        "files left",
        "workers started again",
        "seconds",
        "what was said",
    )
    print(text_table(head, [tuple(map(str, row)) for row in rows]))


if __name__ == "__main__":
    main(sys.argv[1:])
