"""What the commands that train share: the law of the latents, and one command for each objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from typing import Annotated, Any

import tyro

from vitdyn._errors import require_choice


@dataclass(frozen=True, kw_only=True)
class LatentOptions:
    """The law of the latents."""

    law: str = "uniform"
    """Law of the latents: uniform, two-point, truncated-normal, beta or constant."""
    low: float = 1.0
    """L, the least latent (the value itself for the constant law)."""
    high: float = 1.5
    """U, the largest latent."""


def law_of(options: LatentOptions) -> Any:
    """Return the law of the latents that the options name."""
    from vitdyn.data import LAWS, Constant

    require_choice("law", options.law, LAWS)
    kind = LAWS[options.law]
    if kind is Constant:
        return Constant(value=options.low)
    if options.law == "truncated-normal":
        middle, width = (options.low + options.high) / 2, options.high - options.low
        return kind(low=options.low, high=options.high, location=middle, scale=max(width / 4, 1e-12))
    return kind(low=options.low, high=options.high)


def first_line(kind: type) -> str:
    """Return what a class says of itself in one line."""
    return (kind.__doc__ or "").strip().splitlines()[0]


def command_for(kind: Any, options: type, carry_out: Callable[[Any, Any], int]) -> type:
    """Return the command of one objective: the objective's own fields and ``options``, carried out by a function."""
    own = [
        (
            option.name,
            Annotated[type(option.default), tyro.conf.arg(help=option.metadata.get("help", ""))],
            option.default,
        )
        for option in fields(kind)
    ]

    def call(self: Any) -> int:
        return carry_out(kind(**{name: getattr(self, name) for name, *_ in own}), self)

    made = make_dataclass(
        f"{options.__name__}{kind.__name__}",
        own,
        bases=(options,),
        frozen=True,
        kw_only=True,
        namespace={"__call__": call},
    )
    made.__doc__ = f"{first_line(kind)} {options.__doc__}"
    return made
