"""Launching kernels on the GPU that holds their tensors."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Make a tensor's GPU the current one, on which kernels are launched; nothing for a tensor on CPU."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
