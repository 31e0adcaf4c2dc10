"""Random streams: one per seed, purpose and step, so that no draw depends on any other draw.

A stream is numpy's counter-based Philox generator. Its key is hashed from (seed, purpose) and its
counter starts at ``step`` in the highest word, so that the streams of two steps are 2^192 draws apart.
What step t of seed s draws is therefore a function of (s, purpose, t) alone: a seed's run is the same
in a batch of one or of a thousand, and a resumed run needs no saved generator state.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vitdyn._errors import require_choice, require_integer

PURPOSES = (
    "layout",
    "basis",
    "clusters",
    "latents",
    "masks",
    "data set clusters",
    "data set latents",
    "minibatches",
    "evaluation clusters",
    "evaluation latents",
    "evaluation masks",
    "user",
)


@lru_cache(maxsize=65536, typed=True)
def _key(seed: int, purpose: str) -> tuple[int, int]:
    require_integer("seed", seed, at_least=0)
    require_choice("purpose", purpose, PURPOSES)
    sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose),))
    low, high = sequence.generate_state(2, np.uint64)
    return int(low), int(high)


def stream(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """Return the generator of one seed, purpose and step.

    Raises ``ValueError`` for a negative seed or step, or an unknown purpose (see ``PURPOSES``).
    """
    require_integer("step", step, at_least=0)
    key = np.array(_key(seed, purpose), dtype=np.uint64)
    counter = np.array([0, 0, 0, step], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))
