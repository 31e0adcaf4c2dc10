"""Where a run computes, and in which precision."""

from __future__ import annotations

import re

import torch

from vitdyn._errors import invalid_value
from vitdyn.trajectory import machine_name

__all__ = ["PRECISIONS", "device_name", "machine_name", "machine_of", "pick_device"]

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of this name: "auto" takes CUDA where there is one, else the CPU.

    Raises ``ValueError`` where CUDA is asked for and there is none.
    """
    name = str(name) if isinstance(name, torch.device) else name
    if not isinstance(name, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise invalid_value("device", name, "must be one of auto, cpu, cuda, cuda:0, cuda:1, ...")
    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise invalid_value("device", name, "no CUDA device is available here: take 'cpu' or 'auto'")
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return what to write into a result: the name of the GPU, or "CPU"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def machine_of(device: torch.device) -> str:
    """Return the kind of machine that computes there: the GPU's name, or the processor's."""
    return device_name(device) if device.type == "cuda" else machine_name()
