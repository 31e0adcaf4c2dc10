"""Prints the peak memory of one contender in MiB: ``python peak_memory.py ours objective=mae patches=256``."""

import ctypes
import gc
import sys
from pathlib import Path

import torch
from contenders import contenders
from problems import Case, Problem


def status(name: str) -> float:
    """Return a line of the process's own account, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) / 1024


def peak(name: str, case: Case) -> float:
    """Return the peak of three steps, data included, above what is resident once all code is loaded."""
    kind = contenders()[name]
    kind.warm(case)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else a step could hide in memory that compiling has left behind
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    contender = kind(Problem.draw(case))
    for _ in range(3 if case.patches < 1024 else 1):
        contender.step()
    return status("VmHWM") - before


if __name__ == "__main__":
    torch.set_num_threads(1)
    pairs = (argument.split("=") for argument in sys.argv[2:])
    case = Case(**{field: value if field == "objective" else int(value) for field, value in pairs})
    print(peak(sys.argv[1], case))
