"""How a run is carried out: where, within how much memory, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vitdyn._errors import require_boolean, require_real
from vitdyn.dynamics.memory import default_limit
from vitdyn.dynamics.resources import pick_device


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a run is carried out. The device can change the last bits of a run's numbers, the rest changes nothing.

    ``device``: auto (CUDA where there is one), cpu, cuda, cuda:1, ... The seeds are split into groups whose working
    memory stays under ``memory_limit_mib`` (None: near the cache on CPU, what is free on a GPU). A checkpoint is
    written every ``checkpoint_seconds`` and removed at the end, unless ``keep_checkpoint``. With ``anew``, a checkpoint
    or result that cannot be used (damaged, of another run) is made again; it is an error otherwise. The final
    correlations of every patch are most of a result (8 to 15 MB at P = 1024); ``keep_final_state=False`` leaves them
    out. ``progress`` shows on standard error how far the run is.

    Raises ``ValueError`` for a device that is not here and for any other bad value.

    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> training = vd.Training(generator=generator, objective=vd.MaskedReconstruction(), steps=5)
    >>> small = vd.simulate(training, runtime=vd.Runtime(device="cpu", keep_final_state=False))
    >>> "final_feature_position" in small.dataset
    False
    """

    device: str = "auto"
    memory_limit_mib: float | None = None
    checkpoint_seconds: float = 10.0
    keep_checkpoint: bool = False
    keep_final_state: bool = True
    anew: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or self.device != "auto":  # that one asks for CUDA, later
            pick_device(self.device)
        if self.memory_limit_mib is not None:
            require_real("memory_limit_mib", self.memory_limit_mib, low=0.0, high=1e9, open_low=True)
        require_real("checkpoint_seconds", self.checkpoint_seconds, low=0.0, high=1e9)
        for field in ("keep_checkpoint", "keep_final_state", "anew", "progress"):
            require_boolean(field, getattr(self, field))

    @property
    def place(self) -> torch.device:
        """The device, "auto" and "cuda" resolved: threads of the run would each have a current GPU of their own."""
        device = pick_device(self.device)
        if device.type == "cuda" and device.index is None:
            return torch.device("cuda", torch.cuda.current_device())
        return device

    @property
    def group_limit_mib(self) -> float:
        """The MiB that a group of seeds may take, the default filled in."""
        return default_limit(self.place) if self.memory_limit_mib is None else self.memory_limit_mib
