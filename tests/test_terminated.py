"""SIGTERM: the state is deposited, one line is said, the status is 143 (the same bits: ``test_checkpoint``)."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from vitdyn._signals import Terminated, interrupted_by_sigterm

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

RUN = [
    "run",
    "mae",
    "--patches",
    "64",
    "--kappa-c",
    "0.7",
    "--batch-size",
    "16",
    "--seeds",
    "2",
    "--device",
    "cpu",
]
COMMAND = [sys.executable, "-c", "import sys; from vitdyn.cli import main; sys.exit(main())"]


def begin(command):
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process, moment):
    """Terminate a process a little after it has said a line that begins so; return its last words."""
    while not process.stdout.readline().startswith(moment):
        assert process.poll() is None, process.communicate()
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    return said.replace("\r", "\n").splitlines()[-1]


def test_a_command_deposits_its_state(tmp_path):
    """The first checkpoint falls due after ten seconds: the one that is there was written by the signal."""
    process = begin(
        [*COMMAND, *RUN, "--steps", "2000000", "--frames", "4", "--out", str(tmp_path / "stopped")]
    )
    last = stop(process, "2 seeds x")
    assert last == "vitdyn: terminated; the same command goes on from the last checkpoint"
    (left,) = (tmp_path / "stopped").iterdir()
    assert left.name.endswith(".nc.checkpoint")


SCRIPT = """
from vitdyn.plotting.script import FigureOptions, run_script

def main(options):
    print("begun", flush=True)
    while True:
        pass

run_script(main, FigureOptions, "a script")
"""


def test_a_script_ends_without_a_traceback(tmp_path):
    (tmp_path / "forever.py").write_text(SCRIPT)
    last = stop(begin([sys.executable, str(tmp_path / "forever.py")]), "begun")
    assert last == "forever.py: terminated; the same command goes on from the last checkpoint"


def test_a_second_signal_does_not_cut_the_first_short():
    with pytest.raises(Terminated), interrupted_by_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Terminated:
            os.kill(os.getpid(), signal.SIGTERM)  # as a batch system does that is in a hurry
            raise
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_program_keeps_its_own_handler_and_threads_are_left_alone():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with interrupted_by_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]

    def enter():
        with interrupted_by_sigterm():
            seen.append("inside")

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen[-1] == "inside"
