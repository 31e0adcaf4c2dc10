"""Random streams: one per seed, purpose and step, so that no draw depends on any other draw.

A stream is numpy's counter-based Philox generator. Its key is hashed from (seed, purpose) and its
counter starts at ``step`` in the highest word, so that the streams of two steps are 2^192 draws apart.
What step t of seed s draws is therefore a function of (s, purpose, t) alone: a seed's run is the same
in a batch of one or of a thousand, and a resumed run needs no saved generator state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import UInt64
from numpy.random.bit_generator import ISeedSequence

from vitdyn._errors import invalid_value, require_choice, require_integer, require_sequence

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
    "metrics latents",
    "metrics masks",
    "objective",
    "directions",
    "curvature",
    "model",
    *(
        f"{family}{what}"
        for what in ("noise", "variants", "shifts", "common latents", "latent links", "signs")
        for family in ("", "data set ", "evaluation ", "metrics ")
    ),
)
"""What streams are drawn for; one that is added stands last, so that the keys of the others stay."""

_EACH_ONCE = "must name at least one seed, and each once"


def as_seeds(value: object, field: str = "seeds") -> tuple[int, ...]:
    """Return seeds, a sequence or array of them, as whole numbers of Python.

    Raises ``ValueError`` unless there is at least one, and each is a whole number of at least 0.
    """
    if type(value) is tuple and value and all(type(seed) is int and seed >= 0 for seed in value):
        return value  # as at every step of a run
    require_sequence(field, value, "whole numbers: (0,) or range(4), say")
    seeds: Any = value.tolist() if hasattr(value, "tolist") else value
    for seed in seeds:
        require_integer(field, seed, at_least=0)
    if not len(seeds):
        raise invalid_value(field, tuple(seeds), _EACH_ONCE)
    return tuple(map(int, seeds))


def counted_seeds(value: object) -> tuple[int, ...]:
    """Return the seeds of a run, given as their number (0, 1, ...) or themselves. Raises where one comes twice."""
    if isinstance(value, Integral):
        require_integer("seeds", value, at_least=1, at_most=MOST_SEEDS)
        return tuple(range(int(value)))
    seeds = as_seeds(value)
    if len(set(seeds)) < len(seeds):
        raise invalid_value("seeds", seeds, _EACH_ONCE)
    return seeds


MOST_SEEDS = 10**6
"""Seeds of one run, all of which are in memory until it ends."""


class _Key(ISeedSequence):
    """The key of one seed and purpose, handed to Philox as if it had just been hashed.

    To give Philox the key itself would make it gather entropy of the system that it then leaves unused,
    which takes longer than all the rest.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._seed, self._purpose = seed, purpose
        sequence = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose),))
        self._words = sequence.generate_state(2, np.uint64)

    def generate_state(self, n_words: int, dtype: object = np.uint64) -> np.ndarray:
        """Return the two 64-bit words of the key."""
        if (n_words, np.dtype(dtype)) != (2, np.uint64):  # type: ignore[call-overload]
            raise NotImplementedError("a Philox key has two words of 64 bits")
        return self._words

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        return _Key, (self._seed, self._purpose)


_key = lru_cache(maxsize=65536, typed=True)(_Key)


def stream(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """Return the generator of one seed, purpose and step.

    Raises ``ValueError`` for a negative seed or step, or an unknown purpose (see ``PURPOSES``).
    """
    require_integer("seed", seed, at_least=0)
    require_choice("purpose", purpose, PURPOSES)
    require_integer("step", step, at_least=0)
    counter = np.array((0, 0, 0, step), dtype=np.uint64)
    philox = np.random.Philox(_key(seed, purpose), counter=counter)  # type: ignore[arg-type]
    return np.random.Generator(philox)


@dataclass(frozen=True)
class Streams:
    """The streams of several seeds for one purpose and step, for what is drawn for all of them at once.

    Errors are those of ``stream``.
    """

    seeds: tuple[int, ...]
    purpose: str
    step: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", as_seeds(self.seeds))
        require_choice("purpose", self.purpose, PURPOSES)
        require_integer("step", self.step, at_least=0)

    def each(self) -> Iterator[np.random.Generator]:
        """Return one generator after another."""
        return (stream(seed, self.purpose, self.step) for seed in self.seeds)

    @property
    def keys(self) -> UInt64[np.ndarray, "seed 2"]:
        """The key of each stream."""
        return _keys(self.seeds, self.purpose)


@lru_cache(maxsize=1024)
def _keys(seeds: tuple[int, ...], purpose: str) -> UInt64[np.ndarray, "seed 2"]:
    return np.array([_key(seed, purpose).generate_state(2) for seed in seeds])
