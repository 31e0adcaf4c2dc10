"""What the commands that train share: the options of the data, and one command for each objective."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vitdyn._errors import invalid_value, require_choice
from vitdyn.cli.catalogue import Entry, objectives


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The distribution of the latents, and the sizes of areas."""

    distribution: str = "uniform"
    """Distribution of the latents: uniform, two-point, truncated-normal, beta, constant, or your ``--module``'s."""
    low: float = 1.0
    """L, the least latent (the value itself for the constant distribution)."""
    high: float = 1.5
    """U, the largest latent."""
    patches: float
    """P, the number of positions."""
    kappa_c: float = 0.9
    """κ_c in [0.5005, 1]: the global area has P^κ_c patches."""
    kappa_s: float = 0.4
    """κ_s in [0.001, 0.5]: a local area has P^κ_s patches."""


def distribution_of(options: DataOptions) -> Any:
    """Return the distribution of the latents that the options name."""
    from vitdyn.data import DISTRIBUTIONS, Constant

    require_choice("distribution", options.distribution, DISTRIBUTIONS)
    kind: Any = DISTRIBUTIONS[options.distribution]
    if kind is Constant:
        return Constant(value=options.low)
    if options.distribution == "truncated-normal":
        # In the middle of the support and a quarter of it wide; never of width 0.
        middle, width = (options.low + options.high) / 2, options.high - options.low
        return kind(low=options.low, high=options.high, location=middle, scale=max(width / 4, 1e-12))
    support = {"low": options.low, "high": options.high}
    return kind(**{each.name: support[each.name] for each in fields(kind) if each.name in support})


def seconds_of_calls(call: Callable[[int], object], count: int) -> float:
    """Return how long a call takes in the mean over ``count``, numbered from 0."""
    began = time.perf_counter()
    for number in range(count):
        call(number)
    return (time.perf_counter() - began) / count


def result_file(experiment: Any, folder: Path) -> Path:
    """Return the file of a command's result. Raises ``ValueError`` where it or its figure could not be written."""
    from vitdyn._files import require_writable
    from vitdyn.plotting.drawing import figure_files

    path = folder / f"{experiment.name}-{experiment.key}.nc"
    for file in (path, *figure_files(path.with_suffix("")).values()):
        require_writable(file)
    return path


def commands(options: type, carry_out: Callable[[Any, Any], int]) -> dict[str, type]:
    """Return a command for each objective: its own fields and ``options``, carried out by a function."""
    return {each.name: _command(each, options, carry_out) for each in objectives()}


def _command(objective: Entry, options: type, carry_out: Callable[[Any, Any], int]) -> type:
    own = [
        (each.name, Annotated[type(each.default), tyro.conf.arg(help=each.help)], each.default)
        for each in objective.options
    ]

    shared = {each.name for each in fields(options)}.intersection(name for name, *_ in own)
    if shared:  # one option would set both
        words = f"the field {min(shared)} has the name of an option of the command: rename it"
        raise invalid_value("objective", objective.name, words)

    def call(self: Any) -> int:
        return carry_out(objective.load()(**{name: getattr(self, name) for name, *_ in own}), self)

    made = make_dataclass(
        f"{options.__name__}{objective.kind}",
        own,
        bases=(options,),
        frozen=True,
        kw_only=True,
        namespace={"__call__": call},
    )
    made.__doc__ = f"{objective.text} {options.__doc__}"
    return made
