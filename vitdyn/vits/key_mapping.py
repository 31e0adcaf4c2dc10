"""From a file's tensors to an encoder's: the layout is recognised, every key is accounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.vits.key_prefixes import Found, recognised, without_wrappers
from vitdyn.vits.key_tables import ELSEWHERE, LAYOUTS, NUMBER, Layout
from vitdyn.vits.state_files import BRANCHES, StateDict
from vitdyn.vits.untrusted import listed, refused


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
    others: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the report as one line."""
        parts = [f"{self.read} tensors read from {self.container}, {self.layout} names"]
        if self.prefix:
            parts[0] += f" behind {self.prefix!r}"
        if self.set_aside:
            parts.append("set aside: " + ", ".join(f"{words} ({count})" for words, count in self.set_aside))
        if self.others:
            parts.append("beside them, not read: " + listed(self.others))
        return "; ".join([*parts, *self.absent])


@dataclass(frozen=True)
class Mapped:
    """The tensors of an encoder under our names, the layout they came in, and the report.

    ``family`` is that of the authors whose code alone names tensors so; ``rivals`` are places of the file where
    another encoder stands.
    """

    tensors: dict[str, Tensor]
    layout: Layout
    depth: int
    report: KeyReport
    family: str | None
    rivals: tuple[str, ...]


def map_keys(state: StateDict, *, prefix: str | None = None) -> Mapped:
    """Return a file's tensors under our names (see :mod:`vitdyn.vits.key_tables`).

    ``prefix`` says what stands before the names of the encoder's tensors; all others are set aside then. Raises
    ``ValueError`` if no layout has any of its blocks in the file, or, for the layout that has most, if a key is
    missing or one is left over that is not known to lie outside the encoder.
    """
    found = _recognised(state, prefix)
    layout, names = found.layout, found.names
    # whatever is no part of the encoder must be known by name: nothing is dropped in silence
    asides = {key: _aside(key, found, state.tensors) for key in state.tensors if key not in names}
    if prefix is not None:
        outside = f"outside {prefix!r}"
        asides = {key: words if key.startswith(prefix) else words or outside for key, words in asides.items()}
    # the deepest block that is named; _missing finds the gaps below it
    depth = 1 + max(int(match[1]) for match in map(_NUMBERED.match, names.values()) if match)
    missing, absent = _missing(layout, depth, names, pooled="norm after pooling" in asides.values())
    unknown = [key for key, words in asides.items() if words is None]
    _require_plain(unknown, state.path)
    if missing or unknown:
        advice = ""
        # one file of several lacks keys for a reason that can be named
        if _SHARD.search(state.path.name):
            advice = ": it is one of several files, so name their index, or their folder"
        elif unknown and prefix is None:
            advice = ": --prefix names the part to read, if it is one"
        raise refused(
            state.path,
            f"read as {layout.name} names behind {found.prefix!r}, it lacks {listed(missing)} and holds unknown "
            f"keys {listed(unknown)}{advice}",
        )
    report = KeyReport(
        layout=layout.name,
        container=state.container,
        prefix=found.prefix,
        read=len(names),
        set_aside=tuple(sorted(Counter(str(words) for words in asides.values()).items())),
        others=state.others,
        absent=absent,
    )
    tensors = {ours: state.tensors[theirs] for theirs, ours in names.items()}
    return Mapped(tensors, layout, depth, report, _family(state, found), state.rivals + found.rivals)


def _family(state: StateDict, found: Found) -> str | None:
    """Return whose training script alone names tensors as this file does; None where several do."""
    # MoCo v3 alone wraps its two encoders so; MAE alone has a decoder, DeiT a second token
    words = found.prefix.split(".")
    if "base_encoder" in words or "momentum_encoder" in words:
        return "moco-v3"
    if any(key.endswith("decoder_embed.weight") for key in state.tensors):
        return "mae"
    if "distillation_token" in found.names.values():
        return "deit"
    return "dino" if any(f"[{name!r}]" == state.container for name in BRANCHES) else None


_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_NUMBERED = re.compile(r"blocks\.(\d+)\.")


def _recognised(state: StateDict, prefix: str | None) -> Found:
    # models that no table reads are named for what they are before keys are called unknown
    found = recognised(state.tensors, branch=state.branch, prefix=prefix)
    if found is not None:
        return found
    _require_plain(state.tensors, state.path)
    asked = {"branch": state.branch, "prefix": prefix}
    for field, value in asked.items():
        if value is not None:
            held = f"{state.container} holds {listed(list(state.tensors))}"
            places = f", and encoders may stand under {listed(state.rivals)}" if state.rivals else ""
            raise invalid_value(field, value, f"leads to no Vision Transformer: {held}{places}")
    raise refused(
        state.path,
        f"no Vision Transformer that {', '.join(each.name for each in LAYOUTS)} name: its keys are "
        f"{listed(list(state.tensors))}",
    )


def _aside(key: str, found: Found, tensors: Mapping[str, Tensor]) -> str | None:
    """Return what a key left over belongs to, or None."""
    # DINOv2 has one too, in its encoder: a decoder beside it tells that it is MAE's
    if key == f"{found.prefix}mask_token" and f"{found.prefix}decoder_embed.weight" in tensors:
        return "decoder"  # without a decoder it is DINOv2's
    for rest in without_wrappers(key, found.prefix):
        for pattern, words in found.layout.aside:
            if re.fullmatch(pattern, rest):
                return words
    rival = next((each for each in found.rivals if key.startswith(each)), None)
    return None if rival is None else f"branch {rival!r}"


def _missing(
    layout: Layout, depth: int, found: Mapping[str, str], *, pooled: bool
) -> tuple[list[str], tuple[str, ...]]:
    """Return the keys, as the layout names them, that should be there, and in words what is rightly absent."""
    have, missing, absent = set(found.values()), [], []
    # models that pool first have their norm after pooling, and none on the stream
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
                raise refused(path, f"has {words}, as {listed([key])}: only plain ViTs are read")


def split_qkv(mapped: Mapped) -> Mapped:
    """Return the tensors with stacked queries, keys and values taken apart, a third of the rows each."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in mapped.tensors.items():
        # a stack that is no multiple of three stays whole, and its shape is refused later
        if ".qkv." in name and tensor.ndim and tensor.shape[0] % 3 == 0:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                tensors[name.replace("qkv", part)] = rows
        else:
            tensors[name] = tensor
    return replace(mapped, tensors=tensors)
