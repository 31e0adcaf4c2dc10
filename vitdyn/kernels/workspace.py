"""Arrays that are used again from step to step."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor


class Workspace:
    """A set of arrays by name: fresh pages cost more than the arithmetic on them.

    What a forward returned lies in its workspace and holds until the next forward with the same one.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Tensor] = {}
        self._cached: dict[Hashable, tuple[Any, Any]] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return an uninitialised array, the same one as last time where name, shape and kind agree."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != like.dtype or array.device != like.device:
            array = self._arrays[name] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return array

    def cached(self, key: Hashable, owner: Any, compute: Callable[[], Any]) -> Any:
        """Return what ``compute`` returned last time for this key, if that was for the same object ``owner``."""
        # by identity: to hash a layout takes longer than a small gradient
        if key not in self._cached or self._cached[key][0] is not owner:
            self._cached[key] = owner, compute()
        return self._cached[key][1]
