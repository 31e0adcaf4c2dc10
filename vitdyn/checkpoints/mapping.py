"""From a file's tensors to an encoder's: the layout is recognised, every key is accounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from vitdyn._errors import wrong
from vitdyn.checkpoints.files import StateDict, listed
from vitdyn.checkpoints.key_tables import ELSEWHERE, LAYOUTS, NUMBER, PREFIXES, Layout


@dataclass(frozen=True, kw_only=True)
class KeyReport:
    """What became of the keys of a file: how many were read, which were set aside and what had to be absent.

    ``set_aside`` counts tensors by what they belong to; ``absent`` says in words what an encoder may lack.
    No key is ever dropped in silence: what is missing or unknown is an error.
    """

    layout: str
    container: str
    prefix: str
    read: int
    set_aside: tuple[tuple[str, int], ...]
    beside: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the report as one line."""
        parts = [f"{self.read} tensors read from {self.container}, {self.layout} names"]
        if self.prefix:
            parts[0] += f" behind {self.prefix!r}"
        if self.set_aside:
            parts.append("set aside: " + ", ".join(f"{words} ({count})" for words, count in self.set_aside))
        if self.beside:
            parts.append("beside them, not read: " + listed(self.beside))
        return "; ".join([*parts, *self.absent])


@dataclass(frozen=True)
class Mapped:
    """The tensors of an encoder under our names, the layout they came in, and the report."""

    tensors: dict[str, Tensor]
    layout: Layout
    depth: int
    report: KeyReport


def map_keys(state: StateDict) -> Mapped:
    """Return a file's tensors under our names (see :mod:`vitdyn.checkpoints.key_tables`).

    Raises ``ValueError`` if no layout has any of its blocks in the file, or, for the layout that has most, if
    a key is missing or one is left over that is not known to lie outside the encoder.
    """
    prefix, layout, found = _recognised(state)
    left = [key for key in state.tensors if key not in found]
    asides = {key: _aside(key, prefix, layout, state.tensors) for key in left}
    depth = 1 + max(int(match[1]) for match in map(_NUMBERED.match, found.values()) if match)
    missing, absent = _missing(layout, depth, found, pooled="norm after pooling" in asides.values())
    unknown = [key for key, words in asides.items() if words is None]
    _require_plain(unknown, state.path)
    if missing or unknown:
        raise wrong(
            "checkpoint",
            str(state.path),
            f"read as {layout.name} names, it lacks {listed(missing)} and holds unknown keys {listed(unknown)}",
        )
    report = KeyReport(
        layout=layout.name,
        container=state.container,
        prefix=prefix,
        read=len(found),
        set_aside=tuple(sorted(Counter(str(words) for words in asides.values()).items())),
        beside=state.beside,
        absent=absent,
    )
    tensors = {ours: state.tensors[theirs] for theirs, ours in found.items()}
    return Mapped(tensors, layout, depth, report)


_NUMBERED = re.compile(r"blocks\.(\d+)\.")


def _recognised(state: StateDict) -> tuple[str, Layout, dict[str, str]]:
    """Return the prefix and the layout that name most of the keys, and our name for each of these."""
    tries = [
        (prefix, layout, _matched(state.tensors, prefix, layout)) for prefix in PREFIXES for layout in LAYOUTS
    ]
    prefix, layout, found = max(tries, key=lambda each: len(each[2]))
    if not any(_NUMBERED.match(ours) for ours in found.values()):
        _require_plain(state.tensors, state.path)
        raise wrong(
            "checkpoint",
            str(state.path),
            f"no Vision Transformer that {', '.join(each.name for each in LAYOUTS)} name: its keys are "
            f"{listed(list(state.tensors))}",
        )
    return prefix, layout, found


def _matched(tensors: Mapping[str, Tensor], prefix: str, layout: Layout) -> dict[str, str]:
    """Return our name for every key that the table knows behind the prefix."""
    table = dict(layout.keys)
    start = next(theirs.split(NUMBER)[0] for theirs in table if NUMBER in theirs)
    block = re.compile(re.escape(start) + r"(0|[1-9]\d{0,3})\.(.+)", re.DOTALL)
    found = {}
    for key in tensors:
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            match = block.fullmatch(rest)
            ours = table.get(f"{start}{NUMBER}.{match[2]}" if match else rest)
            if ours:
                found[key] = ours.replace(NUMBER, match[1] if match else "")
    return found


def _aside(key: str, prefix: str, layout: Layout, tensors: Mapping[str, Tensor]) -> str | None:
    """Return what a key left over belongs to, or None."""
    rest = key[len(prefix) :] if key.startswith(prefix) else key.removeprefix("module.")
    if (
        rest == "mask_token" and f"{prefix}decoder_embed.weight" in tensors
    ):  # without a decoder it is DINOv2's
        return "decoder"
    return next((words for pattern, words in layout.aside if re.fullmatch(pattern, rest)), None)


def _missing(
    layout: Layout, depth: int, found: Mapping[str, str], *, pooled: bool
) -> tuple[list[str], tuple[str, ...]]:
    """Return the keys, as the layout names them, that should be there, and in words what is rightly absent."""
    have, missing, absent = set(found.values()), [], []
    without_norm = pooled and not have & {"norm.weight", "norm.bias"}
    for theirs, ours in layout.keys:
        numbers = range(depth) if NUMBER in ours else range(1)
        lacking = [number for number in numbers if ours.replace(NUMBER, str(number)) not in have]
        if ours in layout.optional and len(lacking) == len(numbers):
            absent += [f"no {theirs.replace(NUMBER, '*')}"] if ours.endswith("bias") else []
        elif not (without_norm and ours.startswith("norm.")):
            missing += [theirs.replace(NUMBER, str(number)) for number in lacking]
    if without_norm:
        absent.append("the final norm is the identity: this model pools first, and norms afterwards")
    return missing, tuple(absent)


def _require_plain(keys: Mapping[str, Tensor] | list[str], path: Path) -> None:
    for pattern, words in ELSEWHERE:
        for key in keys:
            if re.fullmatch(pattern, key):
                raise wrong(
                    "checkpoint", str(path), f"has {words}, as {listed([key])}: only plain ViTs are read"
                )


def split_joint(mapped: Mapped) -> Mapped:
    """Return the tensors with stacked queries, keys and values taken apart, a third of the rows each."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in mapped.tensors.items():
        if ".joint." in name and tensor.shape[0] % 3 == 0:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[name.replace("joint", part)] = rows
        else:
            tensors[name] = tensor
    return replace(mapped, tensors=tensors)
