"""Where a run computes and how much memory it takes."""

from __future__ import annotations

import re

import torch

from vitdyn._errors import wrong
from vitdyn.data import PatchGenerator

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
DEFAULT_MEMORY_MIB = {"cpu": 16.0, "cuda": 4096.0}


def pick_device(name: str = "auto") -> torch.device:
    """Return the device: "auto" takes CUDA where there is one, else the CPU.

    Raises ``ValueError`` where CUDA is asked for and there is none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(name)):
        raise wrong("device", name, "must be one of auto, cpu, cuda, cuda:0, cuda:1, ...")
    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise wrong("device", name, "no CUDA device is available here: take 'cpu' or 'auto'")
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """Return what to write into a result: the name of the GPU, or "CPU"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def estimate_memory(
    generator: PatchGenerator, samples: int, *, views: int = 1, precision: str = "float32"
) -> int:
    """Return the bytes of working memory that one seed needs while it trains, as the split of seeds counts them.

    For each view: five arrays of (sample, area, query), eight of (sample, query) and five of (query, key);
    besides, Q, its gradient and an optimiser's two moments.
    """
    layout = generator.layout
    view = 5 * samples * layout.areas * layout.patches + 8 * samples * layout.patches + 5 * layout.patches**2
    blocks = layout.patches**2 + layout.patches * layout.areas * layout.clusters
    return (views * view + 4 * blocks) * torch.finfo(PRECISIONS[precision]).bits // 8
